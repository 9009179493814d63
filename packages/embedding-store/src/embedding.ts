import { InvalidEmbeddingError } from './errors.js';

/**
 * How the matrix's numbers are held: 32-bit floats, the bits of 16-bit floats, or signed bytes. Bytes have no scale in a record: who
 * writes them agrees on one with who reads them, and the language models of `@user-llm/cross-attention` refuse them.
 */
export type EmbeddingDtype = 'float32' | 'float16' | 'int8';

/** The array that goes with each dtype: `Float32Array`, `Uint16Array` (bits of IEEE 754 binary16), `Int8Array`. */
export type EmbeddingData = Float32Array | Uint16Array | Int8Array;

/** One user's matrix, and where it comes from. */
export interface UserEmbedding {
  /** The customer the user belongs to, where one store serves several; the empty string otherwise. */
  tenant: string;
  user: string;
  /** Hash of the encoder's weights that made it. A model built for other weights must refuse it. */
  encoder: string;
  /** Hash of the tokenizer that the encoder read through. */
  tokenizer: string;
  /** Grows with every embedding of this user by this encoder; a write with an older one does not replace a newer that can be served. */
  sequence: number;
  /** The last event that is in the matrix (unix seconds, or its place where the log has only an order; NaN when unknown), and how many are. */
  watermark: { time: number; count: number };
  /** When the store wrote it, in unix seconds. */
  writtenAt: number;
  dtype: EmbeddingDtype;
  /** `[K, D]`: user tokens, and their width. */
  shape: [number, number];
  /** K x D numbers, row after row. */
  data: EmbeddingData;
  /** What the encoder needs to go on from here one event at a time. */
  state?: Uint8Array;
  /** Unix seconds from which on it is not served any more. */
  expiresAt?: number;
}

/** What `put` takes: a `UserEmbedding` whose tenant may be left out, and whose `writtenAt` the store sets itself. */
export type NewUserEmbedding = Omit<UserEmbedding, 'tenant' | 'writtenAt'> & { tenant?: string; writtenAt?: number };

/** Longest tenant, user, encoder or tokenizer, in UTF-8 bytes. */
export const longestName = 4096;
/** Largest matrix plus state of one user, in bytes. */
export const largestRecord = 256 * 1024 * 1024;

const arrays = { float32: 'Float32Array', float16: 'Uint16Array', int8: 'Int8Array' } as const;

// Not instanceof: an array of another realm (a worker, a test runner) is the same thing.
function tag(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** Throws unless `value` can be a name: a string of well-formed Unicode within the length limit. */
export function checkName(field: string, value: unknown, { empty = false } = {}): asserts value is string {
  if (typeof value !== 'string')
    throw new InvalidEmbeddingError(field, `must be a string, and is ${value === null ? 'null' : typeof value}`);
  if (value === '' && !empty) throw new InvalidEmbeddingError(field, 'must not be empty');
  // Lone surrogates have no UTF-8 form: two different ids would become one key.
  if (/\p{Surrogate}/u.test(value))
    throw new InvalidEmbeddingError(field, 'holds half of a surrogate pair; ids must be well-formed Unicode');
  if (Buffer.byteLength(value) > longestName)
    throw new InvalidEmbeddingError(field, `is longer than ${longestName} bytes; store a hash of it`);
}

/** After this second (the end of the year 9999) a time is taken for one in another unit. */
const lastSecond = 253_402_300_799;

/** Throws an InvalidEmbeddingError that names the first field a record cannot hold. */
export function checkEmbedding(embedding: NewUserEmbedding): void {
  if (typeof embedding !== 'object' || embedding === null) throw new InvalidEmbeddingError('embedding', 'must be an object');
  const { tenant = '' } = embedding;
  checkName('tenant', tenant, { empty: true });
  checkName('user', embedding.user);
  checkName('encoder', embedding.encoder);
  checkName('tokenizer', embedding.tokenizer);
  const { sequence, watermark, dtype, shape, data, state, expiresAt } = embedding;
  if (!Number.isSafeInteger(sequence) || sequence < 0)
    throw new InvalidEmbeddingError('sequence', 'must be a whole number, 0 or more');
  if (typeof watermark?.time !== 'number')
    throw new InvalidEmbeddingError('watermark.time', 'must be unix seconds (NaN when unknown)');
  if (!Number.isSafeInteger(watermark.count) || watermark.count < 0) {
    throw new InvalidEmbeddingError('watermark.count', 'must be a whole number of events, 0 or more');
  }
  if (!Object.hasOwn(arrays, dtype)) throw new InvalidEmbeddingError('dtype', `must be one of ${Object.keys(arrays).join(', ')}`);
  if (
    !Array.isArray(shape) ||
    shape.length !== 2 ||
    !shape.every((size) => Number.isSafeInteger(size) && size > 0 && size < 2 ** 31)
  ) {
    throw new InvalidEmbeddingError('shape', 'must be [K, D], two whole numbers above 0');
  }
  if (tag(data) !== arrays[dtype])
    throw new InvalidEmbeddingError('data', `must be a ${arrays[dtype]} for dtype ${dtype}, and is ${tag(data)}`);
  if (data.length !== shape[0] * shape[1]) {
    throw new InvalidEmbeddingError(
      'data',
      `has ${data.length} numbers; its shape [${shape.join(', ')}] needs ${shape[0] * shape[1]}`,
    );
  }
  if (state !== undefined && !['Uint8Array', 'Buffer'].includes(tag(state)))
    throw new InvalidEmbeddingError('state', 'must be a Uint8Array');
  if (expiresAt !== undefined && !Number.isFinite(expiresAt))
    throw new InvalidEmbeddingError('expiresAt', 'must be unix seconds');
  if (expiresAt !== undefined && expiresAt > lastSecond)
    throw new InvalidEmbeddingError(
      'expiresAt',
      'must be unix seconds, and lies beyond the year 9999; divide milliseconds by 1000',
    );
  if (data.byteLength + (state?.byteLength ?? 0) > largestRecord) {
    throw new InvalidEmbeddingError('data', `and state together exceed ${largestRecord} bytes`);
  }
}
