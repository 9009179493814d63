export { archiveNames } from './archives.js';
export type { ColumnMapping, ItemColumnMapping } from './columns.js';
export { lineOf, malformed, problemOf, sourceLine } from './dataset.js';
export type { Dataset, Item, Provenance, Row, SourceFile, TimeUnit } from './dataset.js';
export { download } from './download.js';
export type { DownloadedFile, DownloadOptions, DownloadResult } from './download.js';
export {
  BinaryFileError,
  ChecksumError,
  DamagedFileError,
  DatasetError,
  DownloadError,
  EmptyFileError,
  InvalidOptionError,
  MissingColumnError,
  PathNotFoundError,
  UnknownLayoutError,
} from './errors.js';
export type { DownloadProgress } from './fetch-file.js';
export { openDataset } from './open-dataset.js';
export type { OpenOptions } from './open-dataset.js';
export { simulateFilmService } from './simulator/simulate-film-service.js';
export type { SimulatedDataset, SimulationOptions, SimulationTruth } from './simulator/simulate-film-service.js';
export type { SourceTimeUnit } from './values.js';
