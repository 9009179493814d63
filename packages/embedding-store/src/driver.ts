import type { Replaced } from './replaced.js';

/** One change to the store. Sequences are compared inside the driver, where nothing can come between reading and writing. */
export type Write =
  /** A record that is there and expired at `now` or before counts as none. Where `replaces` is given, over that one only. */
  | { kind: 'put'; key: Buffer; record: Buffer; sequence: number; now: number; replaces?: Replaced }
  | { kind: 'delete'; key: Buffer }
  /** Only where the record that is there by then expired at `now` or before. */
  | { kind: 'delete-expired'; key: Buffer; now: number }
  | { kind: 'erase'; prefix: Buffer };

/** What a write did: `put` written, or refused for a newer one or for another than it replaces, and how many records another one removed. */
export type WriteOutcome =
  | { kind: 'written' }
  | { kind: 'older'; storedSequence: number }
  | { kind: 'changed'; storedSequence: Replaced }
  | { kind: 'removed'; records: number };

/** Figures of a store. */
export interface StoreStats {
  driver: string;
  /** Records in it, expired ones included. */
  records: number;
  /** Bytes it takes: the file's on disk, or the records' in memory. */
  bytes: number;
  /** Bytes inside the file that deleted or replaced records left, until they are reused or `compact()` removes them. */
  freeBytes: number;
}

/** A record and its key. */
export interface Entry {
  key: Buffer;
  record: Buffer;
}

/** Of a walk over keys. */
export interface WalkOptions {
  /** Chooses by key, before the record is read. */
  keep?: (key: Uint8Array) => boolean;
  /** Asked whenever the event loop had its turn, also where `keep` keeps nothing. */
  signal?: AbortSignal;
}

/** Where records are kept. Keys and records are bytes that the driver does not look into, except by the functions it is given and those of `record.ts`. */
export interface Driver {
  get(key: Buffer): Promise<Buffer | undefined>;
  /** Applies the writes in order, all or none; resolves when they survive a power cut (as far as the driver keeps anything). */
  apply(writes: readonly Write[]): Promise<WriteOutcome[]>;
  /**
   * Entries whose key starts with `prefix`, each read when it is asked for: what was removed by then is not given. It gives the event loop
   * back between chunks of them, as `count` does.
   */
  scan(prefix: Buffer, options?: WalkOptions): AsyncIterable<Entry>;
  count(prefix: Buffer, options?: WalkOptions): Promise<number>;
  stats(): Promise<StoreStats>;
  /** Rewrites the store without what deleted records left behind. */
  compact(): Promise<{ bytesBefore: number; bytesAfter: number }>;
  close(): Promise<void>;
}
