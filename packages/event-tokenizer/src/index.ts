export * from './web.js';
// In the place of the web's tokenizer of this name, which touches no file.
export { EventTokenizer } from './event-tokenizer.js';
export { ColumnFolder } from './column-folder.js';
export type { EncodedChunks, EncodeChunksOptions, EncodeSummary } from './encode-chunks.js';
export { ColumnFolderError } from './errors.js';
