/**
 * One matrix per user: the hash of the encoder that made it, a watermark, expiry, erasure.
 * Shapes: K user tokens, D user width. Times are unix seconds.
 */
export type { EmbeddingData, EmbeddingDtype, NewUserEmbedding, UserEmbedding } from './embedding.js';
export type { StoreStats } from './driver.js';
export type { OpenStoreOptions } from './open-store.js';
export { openStore } from './open-store.js';
export type { KeyNames } from './keys.js';
export type { EmbeddingStore, GetResult, PutOptions, PutResult, UserKey } from './store.js';
export {
  DamagedRecordError,
  InvalidEmbeddingError,
  StoreAccessError,
  StoreAddressError,
  StoreClosedError,
  StoreDamagedError,
  StoreFullError,
  StoreInUseError,
} from './errors.js';
