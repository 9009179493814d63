import path from 'node:path';
import type { Driver } from './driver.js';
import { StoreAddressError } from './errors.js';
import { EmbeddingStore } from './store.js';

/** Options of `openStore`. */
export interface OpenStoreOptions {
  /**
   * How much of an existing LMDB file a child process reads before this one maps it:
   * `quick` (default, about 60 ms) its structure's edges, `full` every record.
   */
  check?: 'quick' | 'full';
  /** The clock for `writtenAt` and expiry, in unix seconds. */
  now?: () => number;
}

type Opener = (rest: string, options: OpenStoreOptions) => Promise<Driver>;

// A driver's code, and the library under it, is loaded only when its scheme is named.
const drivers: Record<string, { form: string; open: Opener }> = {
  lmdb: {
    form: 'lmdb:DIR',
    async open(rest, { check = 'quick' }) {
      if (rest === '') throw new StoreAddressError('lmdb', forms(), 'The address "lmdb:" names no folder');
      const [, machine, below] = /^\/\/([^/]+)(.*)$/.exec(rest) ?? [];
      if (machine !== undefined) {
        const meant = `a folder is lmdb:${machine}${below} from here, or lmdb:/${machine}${below}`;
        throw new StoreAddressError('lmdb', forms(), `The address "lmdb:${rest}" names a machine, "${machine}" (${meant})`);
      }
      const { LmdbDriver } = await import('./lmdb-driver.js');
      return LmdbDriver.open(path.resolve(rest), check);
    },
  },
  memory: {
    form: 'memory:',
    async open(rest) {
      if (rest !== '') throw new StoreAddressError('memory', forms(), 'A store in memory has no name after "memory:"');
      const { MemoryDriver } = await import('./memory-driver.js');
      return new MemoryDriver();
    },
  },
};

function forms(): string[] {
  return Object.values(drivers).map((driver) => driver.form);
}

/**
 * Opens a store, and makes it where there is none.
 * @param address `lmdb:DIR` (a folder) or `memory:` (this process only)
 * @throws StoreAddressError for another address; StoreDamagedError for a file that is truncated or damaged; StoreAccessError, StoreFullError, StoreInUseError
 */
export async function openStore(address: string, options: OpenStoreOptions = {}): Promise<EmbeddingStore> {
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(address) ?? [];
  const known = Object.hasOwn(drivers, scheme.toLowerCase()) ? drivers[scheme.toLowerCase()] : undefined;
  if (!known) {
    const what = scheme === '' ? 'A store address starts with a scheme and a colon' : `There is no store driver "${scheme}:"`;
    throw new StoreAddressError(scheme, forms(), what);
  }
  return new EmbeddingStore(await known.open(rest, options), options.now);
}
