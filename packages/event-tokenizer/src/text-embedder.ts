import { SchemaError } from './errors.js';

/** Turns texts into vectors. */
export interface TextEmbedder {
  /** Names the function and its version: a saved tokenizer refuses an embedder of another name or width. */
  readonly name: string;
  /** Length of each vector. */
  readonly width: number;
  /** Most texts per call; 1,024 when left out. */
  readonly batchSize?: number;
  /** One vector of `width` numbers per text, in the same order. May be asynchronous. */
  embed(texts: readonly string[]): readonly ArrayLike<number>[] | Promise<readonly ArrayLike<number>[]>;
}

/** @throws SchemaError for a batch size that would never come to an end */
export function checkEmbedder({ name, batchSize }: TextEmbedder): void {
  if (batchSize !== undefined && (!Number.isInteger(batchSize) || batchSize < 1))
    throw new SchemaError(
      'batchSize',
      `the embedder "${name}" takes ${batchSize} texts per call, which is not a positive whole number.`,
    );
}

/** Options of {@link hashedNgrams}. */
export interface HashedNgramOptions {
  /** Length of the vectors; 64 when left out. */
  width?: number;
  /** Shortest and longest n-gram in UTF-16 code units; 3 and 5 when left out. */
  minLength?: number;
  maxLength?: number;
}

/**
 * The default text embedder: signed feature hashing (Weinberger et al. 2009) of character n-grams, no model and no vocabulary.
 *
 * The text is normalised (NFKC), lower-cased, runs of white space become one space, and one space is put on each side. Every
 * n-gram of `minLength` to `maxLength` code units is hashed: 32-bit FNV-1a over the code units (each in one step, start
 * 2166136261, prime 16777619), then MurmurHash3's 32-bit finaliser. With h the result, the n-gram adds +1 (top bit of h
 * clear) or -1 (set) to place `(h & 0x7fffffff) % width`. The vector is then divided by its Euclidean length; a text
 * without an n-gram is the zero vector.
 */
export function hashedNgrams({ width = 64, minLength = 3, maxLength = 5 }: HashedNgramOptions = {}): TextEmbedder {
  if (!Number.isInteger(width) || width < 1) throw new SchemaError('width', `${width} is not a positive whole number.`);
  if (!Number.isInteger(minLength) || minLength < 1 || !Number.isInteger(maxLength) || maxLength < minLength)
    throw new SchemaError('minLength', `n-grams of ${minLength} to ${maxLength} code units are not possible.`);
  return {
    name: `hashed-ngrams-1/${minLength}-${maxLength}`,
    width,
    embed: (texts) => texts.map((text) => hashText(text, width, minLength, maxLength)),
  };
}

/** The embedder that a saved name stands for, where it is one of ours. */
export function embedderNamed(name: string, width: number): TextEmbedder | undefined {
  const match = /^hashed-ngrams-1\/(\d+)-(\d+)$/.exec(name);
  return match ? hashedNgrams({ width, minLength: Number(match[1]), maxLength: Number(match[2]) }) : undefined;
}

function hashText(raw: string, width: number, minLength: number, maxLength: number): Float32Array {
  const vector = new Float32Array(width);
  const words = raw.normalize('NFKC').toLowerCase().replace(/\s+/gu, ' ').trim();
  if (words === '') return vector;
  const text = ` ${words} `;
  for (let start = 0; start + minLength <= text.length; start++) {
    const end = Math.min(text.length, start + maxLength);
    let hash = 0x811c9dc5;
    for (let at = start; at < end; at++) {
      hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
      if (at - start + 1 < minLength) continue;
      let h = hash;
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      h ^= h >>> 16;
      vector[(h & 0x7fffffff) % width] += h < 0 ? -1 : 1;
    }
  }
  let squares = 0;
  for (let i = 0; i < width; i++) squares += vector[i] * vector[i];
  if (squares > 0) {
    const scale = 1 / Math.sqrt(squares);
    for (let i = 0; i < width; i++) vector[i] *= scale;
  }
  return vector;
}
