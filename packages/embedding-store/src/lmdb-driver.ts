import { existsSync } from 'node:fs';
import { mkdir, open as openFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { endianness } from 'node:os';
import path from 'node:path';
import type { Database, RootDatabase } from 'lmdb';
import type { Driver, Entry, StoreStats, WalkOptions, Write, WriteOutcome } from './driver.js';
import { StoreAccessError, StoreClosedError, StoreFullError } from './errors.js';
import { afterPrefix } from './keys.js';
import { checkFile, requireAccess } from './lmdb-check.js';
import { Presence } from './presence.js';
import { recordExpired, recordLength } from './record.js';
import { refusal } from './replaced.js';
import { keysPerTurn, nextTurn, recordsPerTurn } from './turn.js';

type Bytes = Database<Buffer, Buffer>;
interface Tables {
  root: RootDatabase<Buffer, Buffer>;
  records: Bytes;
  tails: Bytes;
}
interface Pending {
  writes: readonly Write[];
  bytes: number;
  resolve(outcomes: WriteOutcome[]): void;
  reject(error: unknown): void;
}

// A large value takes whole pages less one page header, so a matrix of 8,192 bytes and its record header would take three
// pages for two. A short end goes to a second table instead, whose entries share pages.
const page = 4096;
const pageHeader = 24;
const longestTail = 1024;
const batchBytes = 8 * 1024 * 1024;
const freeReserve = 256 * 1024;
const noRoom = new Set([27 /* EFBIG */, 28 /* ENOSPC */, 122 /* EDQUOT */]);

/** Where to cut a record so that its first part fills whole pages; its length where cutting saves nothing. */
export function bodyLength(total: number): number {
  const fit = Math.floor((total + pageHeader) / page) * page - pageHeader;
  return fit > 0 && total - fit <= longestTail ? fit : total;
}

/** LMDB in a folder: one data file, many readers and one writer at a time, over any number of processes. */
export class LmdbDriver implements Driver {
  readonly #folder: string;
  readonly #presence: Presence;
  #tables: Tables;
  #queue: Pending[] = [];
  #draining: Promise<void> | undefined;
  /** Set from the beginning of compact()'s copy until it is done; everything else waits for it. */
  #swap: Promise<void> | undefined;
  #compaction: Promise<{ bytesBefore: number; bytesAfter: number }> | undefined;
  /** Why the file could not be opened again after compact() had replaced it. */
  #lost: Error | undefined;
  #closed = false;

  private constructor(folder: string, presence: Presence, tables: Tables) {
    this.#folder = folder;
    this.#presence = presence;
    this.#tables = tables;
  }

  /** Opens (or makes) the store in `folder`, after checking its file in a child process. */
  static async open(folder: string, check: 'quick' | 'full'): Promise<LmdbDriver> {
    if (endianness() !== 'LE') throw new StoreAccessError(folder, 'its records are little-endian and this machine is not');
    await mkdir(folder, { recursive: true }).catch((error: Error) => {
      throw new StoreAccessError(folder, error.message);
    });
    const presence = await Presence.enter(folder).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOSPC'
        ? new StoreFullError(folder, error.message)
        : error.code
          ? new StoreAccessError(folder, error.message)
          : error;
    });
    try {
      await requireAccess(folder);
      await checkFile(path.join(folder, 'data.mdb'), folder, check);
      await requireRoomToMake(folder);
      return new LmdbDriver(folder, presence, await openTables(folder));
    } catch (error) {
      await presence.leave();
      throw error;
    }
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    while (this.#swap) await this.#swap;
    return read(this.#open(), key);
  }

  apply(writes: readonly Write[]): Promise<WriteOutcome[]> {
    return new Promise((resolve, reject) => {
      const bytes = writes.reduce((sum, write) => sum + (write.kind === 'put' ? write.record.length + 2 * page : 0), 0);
      this.#queue.push({ writes, bytes, resolve, reject });
      this.#draining ??= this.#drain();
    });
  }

  async *scan(prefix: Buffer, { keep = () => true, signal }: WalkOptions = {}): AsyncGenerator<Entry> {
    for await (const keys of this.#chunks(prefix, recordsPerTurn, signal)) {
      for (const key of keys.filter(keep)) {
        const record = await this.get(key);
        if (record) yield { key, record };
      }
    }
  }

  async count(prefix: Buffer, { keep, signal }: WalkOptions = {}): Promise<number> {
    let count = 0;
    if (keep) {
      for await (const keys of this.#chunks(prefix, keysPerTurn, signal)) count += keys.filter(keep).length;
      return count;
    }
    // LMDB itself steps over the keys, which takes a tenth of the time that looking at each takes.
    const range = { start: prefix, end: afterPrefix(prefix) };
    for (;;) {
      while (this.#swap) await this.#swap;
      const { records } = this.#open();
      const [next] = [...records.getKeys({ ...range, offset: keysPerTurn, limit: 1 })];
      if (!next) return count + records.getKeysCount(range);
      count += keysPerTurn;
      range.start = next;
      await nextTurn(signal);
    }
  }

  /** The keys in their order, a chunk in every turn: a read transaction that stays open would keep every replaced page in the file. */
  async *#chunks(prefix: Buffer, limit: number, signal: AbortSignal | undefined): AsyncGenerator<Buffer[]> {
    const range = { start: prefix, end: afterPrefix(prefix), limit };
    for (;;) {
      while (this.#swap) await this.#swap;
      const keys = [...this.#open().records.getKeys(range)];
      yield keys;
      if (keys.length < limit) return;
      range.start = Buffer.concat([keys[keys.length - 1], Buffer.of(0)]);
      await nextTurn(signal);
    }
  }

  async stats(): Promise<StoreStats> {
    while (this.#swap) await this.#swap;
    const tables = this.#open();
    const { entryCount } = tables.records.getStats() as { entryCount: number };
    const { pageSize, root, free, lastPageNumber } = tables.root.getStats() as Record<string, number> &
      Record<'root' | 'free', TreeStats>;
    const trees = [root, free, tables.records.getStats() as TreeStats, tables.tails.getStats() as TreeStats];
    const used = trees.reduce((sum, tree) => sum + tree.treeBranchPageCount + tree.treeLeafPageCount + tree.overflowPages, 2);
    const bytes = (await stat(this.#file())).size;
    return { driver: 'lmdb', records: entryCount, bytes, freeBytes: Math.max(0, (lastPageNumber + 1 - used) * pageSize) };
  }

  /** Where one is under way already, that one's: what was acknowledged before this call is in its copy. */
  compact(): Promise<{ bytesBefore: number; bytesAfter: number }> {
    this.#compaction ??= this.#compact();
    return this.#compaction;
  }

  async #compact(): Promise<{ bytesBefore: number; bytesAfter: number }> {
    let release = (): void => {};
    try {
      return await this.#presence.alone(async () => {
        this.#open();
        this.#swap = new Promise((resolve) => (release = resolve));
        await this.#committed;
        return this.#replaceFile();
      });
    } finally {
      // Both in one turn: a write acknowledged in between is not in the copy that the next compact() would be given.
      this.#compaction = undefined;
      this.#swap = undefined;
      release();
    }
  }

  async close(): Promise<void> {
    while (this.#swap) await this.#swap;
    while (this.#draining) await this.#draining;
    this.#closed = true;
    if (!this.#lost) await this.#tables.root.close();
    await this.#presence.leave();
  }

  /** The tables, where they may be used: lmdb-js ends the process where a closed one is. Ask anew after every wait. */
  #open(): Tables {
    if (this.#closed) throw new StoreClosedError();
    if (this.#lost) throw this.#lost;
    return this.#tables;
  }

  #file(): string {
    return path.join(this.#folder, 'data.mdb');
  }

  /** The commit under way, settled either way. */
  #committed: Promise<void> = Promise.resolve();

  // One transaction at a time; what is asked for while one is being flushed goes into the next together.
  async #drain(): Promise<void> {
    await Promise.resolve();
    while (this.#queue.length > 0) {
      while (this.#swap) await this.#swap;
      const batch: Pending[] = [];
      let bytes = 0;
      while (this.#queue.length > 0 && (batch.length === 0 || bytes + this.#queue[0].bytes <= batchBytes)) {
        bytes += this.#queue[0].bytes;
        batch.push(this.#queue.shift()!);
      }
      const commit = this.#commit(
        batch.flatMap((pending) => pending.writes),
        bytes,
      );
      this.#committed = commit.then(
        () => undefined,
        () => undefined,
      );
      await commit.then(
        (outcomes) => {
          for (const pending of batch) pending.resolve(outcomes.splice(0, pending.writes.length));
        },
        (error) => {
          for (const pending of batch) pending.reject(error);
        },
      );
    }
    // In the same turn as the last look at the queue, so that no write is left in it.
    this.#draining = undefined;
  }

  /** Applies the writes in one transaction and waits until it is on the disk. */
  async #commit(writes: readonly Write[], bytes: number): Promise<WriteOutcome[]> {
    if (bytes > 0) await this.#requireRoom(bytes);
    const { root } = this.#open();
    const transaction = root.childTransaction(() => writes.map((write) => applyWrite(this.#tables, write)));
    // Taken now: this is the flush of this very transaction. Acknowledging before it would lose writes at a power cut.
    const flushed = new Promise((resolve, reject) => root.flushed.then(resolve, reject));
    flushed.catch(() => undefined);
    try {
      const outcomes = await transaction;
      await flushed;
      return outcomes;
    } catch (error) {
      const cause = await causeOf(error);
      // An empty transaction settles the flush that the failed one left pending, which close() would wait for.
      await root.transaction(() => undefined).catch(() => undefined);
      throw await this.#describe(cause);
    }
  }

  // lmdb-js meets a full disk in its writing thread, half-way through a commit; looking first keeps that a rare case.
  async #requireRoom(bytes: number): Promise<void> {
    const free = await freeBytes(this.#folder);
    if (free < bytes + freeReserve)
      throw new StoreFullError(this.#folder, `${free} bytes are free, the write needs ${bytes + freeReserve}`);
  }

  async #describe(cause: Error & { code?: unknown }): Promise<Error> {
    const full = noRoom.has(Number(cause.code)) || cause.code === 'ENOSPC' || (await freeBytes(this.#folder)) < freeReserve;
    return full ? new StoreFullError(this.#folder, cause.message) : new StoreAccessError(this.#folder, cause.message);
  }

  async #replaceFile(): Promise<{ bytesBefore: number; bytesAfter: number }> {
    const copy = path.join(this.#folder, 'compacted');
    const bytesBefore = (await stat(this.#file())).size;
    await rm(copy, { recursive: true, force: true });
    try {
      await mkdir(copy);
      await this.#tables.root.backup(copy, true);
      await syncPath(path.join(copy, 'data.mdb'));
    } catch (error) {
      await rm(copy, { recursive: true, force: true });
      throw await this.#describe(error as Error);
    }
    await this.#tables.root.close();
    try {
      await rename(path.join(copy, 'data.mdb'), this.#file());
      await rm(path.join(this.#folder, 'lock.mdb'), { force: true });
      await syncPath(this.#folder);
    } finally {
      // The copy is removed there, too.
      this.#tables = await openTables(this.#folder).catch((error: Error) => {
        throw (this.#lost = error);
      });
    }
    return { bytesBefore, bytesAfter: (await stat(this.#file())).size };
  }
}

interface TreeStats {
  treeBranchPageCount: number;
  treeLeafPageCount: number;
  overflowPages: number;
}

/** LMDB writes its lock file, and a new data file, through memory: where the disk has no room for them, the process would end. */
async function requireRoomToMake(folder: string): Promise<void> {
  if (['data.mdb', 'lock.mdb'].every((name) => existsSync(path.join(folder, name)))) return;
  const free = await freeBytes(folder);
  if (free < freeReserve) throw new StoreFullError(folder, `${free} bytes are free, a new store needs ${freeReserve}`);
}

async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

async function openTables(folder: string): Promise<Tables> {
  const { open } = await import('lmdb');
  const binary = { keyEncoding: 'binary', encoding: 'binary' } as const;
  // Not in lmdb's types. Without it, a power cut may take acknowledged writes: the newest transaction counts, flushed or not.
  const safe = { safeRestore: true };
  await requireAccess(folder);
  try {
    if (existsSync(path.join(folder, 'compacted'))) await rm(path.join(folder, 'compacted'), { recursive: true, force: true });
    // eventTurnBatching off: its inner promise has nobody to catch it when a commit fails.
    const root = open<Buffer, Buffer>({ path: folder, noSubdir: false, eventTurnBatching: false, ...binary, ...safe });
    return { root, records: root.openDB({ name: 'records', ...binary }), tails: root.openDB({ name: 'tails', ...binary }) };
  } catch (error) {
    throw new StoreAccessError(folder, (error as Error).message);
  }
}

function read({ records, tails }: Tables, key: Buffer): Buffer | undefined {
  const body = records.getBinary(key);
  if (!body) return undefined;
  const total = recordLength(body);
  const tail = total !== undefined && total > body.length ? tails.getBinary(key) : undefined;
  return tail ? Buffer.concat([body, tail]) : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

function applyWrite(tables: Tables, write: Write): WriteOutcome {
  if (write.kind === 'put') {
    const stored = read(tables, write.key);
    const refused = refusal(write, stored);
    if (refused) return refused;
    const cut = bodyLength(write.record.length);
    tables.records.putSync(write.key, write.record.subarray(0, cut));
    if (cut < write.record.length) tables.tails.putSync(write.key, write.record.subarray(cut));
    else if (stored) tables.tails.removeSync(write.key);
    return { kind: 'written' };
  }
  if (write.kind === 'delete') return { kind: 'removed', records: Number(remove(tables, write.key)) };
  if (write.kind === 'delete-expired') {
    const stored = read(tables, write.key);
    const expired = stored !== undefined && recordExpired(stored, write.now);
    return { kind: 'removed', records: Number(expired && remove(tables, write.key)) };
  }
  if (write.kind === 'erase') {
    const keys = [...tables.records.getKeys({ start: write.prefix, end: afterPrefix(write.prefix) })];
    return { kind: 'removed', records: keys.filter((key) => remove(tables, key)).length };
  }
  return write satisfies never;
}

function remove({ records, tails }: Tables, key: Buffer): boolean {
  tails.removeSync(key);
  return records.removeSync(key);
}

/** lmdb-js rejects with a general error that carries the promise of the real one. */
async function causeOf(error: unknown): Promise<Error & { code?: unknown }> {
  const { commitError } = error as { commitError?: Promise<never> };
  if (!commitError) return error as Error;
  return Promise.race([
    commitError.catch((cause: Error) => cause),
    new Promise<Error>((resolve) => setTimeout(resolve, 1000, error as Error).unref()),
  ]);
}

async function syncPath(target: string): Promise<void> {
  const handle = await openFile(target, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
