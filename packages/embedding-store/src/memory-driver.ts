import type { Driver, Entry, StoreStats, WalkOptions, Write, WriteOutcome } from './driver.js';
import { encoderPart, isUserPrefix } from './keys.js';
import { recordExpired } from './record.js';
import { refusal } from './replaced.js';
import { nextTurn, recordsPerTurn } from './turn.js';

/** Keeps the records in this process, for tests and short runs: same behaviour, nothing on disk. */
export class MemoryDriver implements Driver {
  /** Each user's records by key, under the part of the key that names the user; keys as latin1, a character per byte. */
  readonly #users = new Map<string, Map<string, Buffer>>();

  async get(key: Buffer): Promise<Buffer | undefined> {
    return this.#users.get(userOf(key))?.get(key.toString('latin1'));
  }

  async apply(writes: readonly Write[]): Promise<WriteOutcome[]> {
    return writes.map((write) => this.#apply(write));
  }

  async *scan(prefix: Buffer, options: WalkOptions = {}): AsyncGenerator<Entry> {
    for await (const entries of this.#chunks(prefix, options)) {
      for (const { key } of entries) {
        const record = await this.get(key);
        if (record) yield { key, record };
      }
    }
  }

  async count(prefix: Buffer, options: WalkOptions = {}): Promise<number> {
    let count = 0;
    for await (const entries of this.#chunks(prefix, options)) count += entries.length;
    return count;
  }

  async stats(): Promise<StoreStats> {
    let records = 0;
    let bytes = 0;
    for await (const entries of this.#chunks(Buffer.alloc(0))) {
      records += entries.length;
      for (const { record } of entries) bytes += record.length;
    }
    return { driver: 'memory', records, bytes, freeBytes: 0 };
  }

  async compact(): Promise<{ bytesBefore: number; bytesAfter: number }> {
    const { bytes } = await this.stats();
    return { bytesBefore: bytes, bytesAfter: bytes };
  }

  async close(): Promise<void> {
    this.#users.clear();
  }

  #apply(write: Write): WriteOutcome {
    if (write.kind === 'put') {
      const records = this.#users.get(userOf(write.key)) ?? new Map<string, Buffer>();
      const key = write.key.toString('latin1');
      const refused = refusal(write, records.get(key));
      if (refused) return refused;
      records.set(key, write.record);
      this.#users.set(userOf(write.key), records);
      return { kind: 'written' };
    }
    if (write.kind === 'delete-expired') {
      const stored = this.#users.get(userOf(write.key))?.get(write.key.toString('latin1'));
      if (!stored || !recordExpired(stored, write.now)) return { kind: 'removed', records: 0 };
    }
    if (write.kind === 'delete' || write.kind === 'delete-expired') {
      const records = this.#users.get(userOf(write.key));
      const found = records?.delete(write.key.toString('latin1')) ?? false;
      if (records?.size === 0) this.#users.delete(userOf(write.key));
      return { kind: 'removed', records: Number(found) };
    }
    if (write.kind === 'erase') {
      const user = write.prefix.toString('latin1');
      const records = this.#users.get(user)?.size ?? 0;
      this.#users.delete(user);
      return { kind: 'removed', records };
    }
    return write satisfies never;
  }

  async *#chunks(prefix: Buffer, { keep = () => true, signal }: WalkOptions = {}): AsyncGenerator<Entry[]> {
    const start = prefix.toString('latin1');
    // Their names alone: whoever is put again meanwhile would come behind the others, and a walk that puts would never end.
    const users = isUserPrefix(prefix) ? [start] : [...this.#users.keys()];
    for (let first = 0; first < users.length; first += recordsPerTurn) {
      if (first > 0) await nextTurn(signal);
      yield users
        .slice(first, first + recordsPerTurn)
        .filter((user) => user.startsWith(start))
        .flatMap((user) => [...(this.#users.get(user) ?? [])])
        .map(([key, record]) => ({ key: Buffer.from(key, 'latin1'), record }))
        .filter(({ key }) => keep(key));
    }
  }
}

function userOf(key: Buffer): string {
  return key.toString('latin1', 0, key.length - encoderPart(key).length);
}
