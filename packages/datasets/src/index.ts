export { lineOf, malformed, problemOf, sourceLine } from './dataset.js';
export type { Dataset, Item, Provenance, Row, SourceFile, TimeUnit } from './dataset.js';
export {
  BinaryFileError,
  DamagedFileError,
  DatasetError,
  EmptyFileError,
  InvalidOptionError,
  MissingColumnError,
  PathNotFoundError,
  UnknownLayoutError,
} from './errors.js';
export { openDataset } from './open-dataset.js';
export type { OpenOptions } from './open-dataset.js';
export { simulateFilmService } from './simulator/simulate-film-service.js';
export type { SimulatedDataset, SimulationOptions, SimulationTruth } from './simulator/simulate-film-service.js';
