// What runs wherever an onnxruntime does: no module of Node is reached from here.
export { ExportedEncoder } from './exported-encoder.js';
export type { ExportedEncoderOptions, OnnxRuntime, OnnxSession } from './exported-encoder.js';
export type { Band, EncoderConfig } from './config.js';
export type { FileReader } from './file-reader.js';
export type { InputField } from './input-fields.js';
export type { TrainingRecord } from './training-record.js';
export type { EmbeddingOptions, UserEmbedding } from './user-embedding.js';
export {
  EncoderDisposedError,
  EncoderFormatError,
  EncoderHashError,
  EncoderOptionError,
  NoItemScoresError,
  UserEncoderError,
} from './errors.js';
