import type { Driver, Entry, StoreStats, Write, WriteOutcome } from './driver.js';
import { encoderPart } from './keys.js';
import { recordExpired, recordSequence } from './record.js';

type KeyFilter = (key: Uint8Array) => boolean;

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

  async *scan(prefix: Buffer, keep: KeyFilter = () => true): AsyncGenerator<Entry> {
    for (const [text, record] of this.#select(prefix)) {
      const key = Buffer.from(text, 'latin1');
      if (keep(key)) yield { key, record };
    }
  }

  async count(prefix: Buffer, keep: KeyFilter = () => true): Promise<number> {
    return this.#select(prefix).filter(([key]) => keep(Buffer.from(key, 'latin1'))).length;
  }

  async stats(): Promise<StoreStats> {
    const all = this.#select(Buffer.alloc(0));
    return {
      driver: 'memory',
      records: all.length,
      bytes: all.reduce((sum, [, record]) => sum + record.length, 0),
      freeBytes: 0,
    };
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
      const stored = records.get(key);
      const storedSequence = stored && recordSequence(stored);
      if (storedSequence !== undefined && storedSequence > write.sequence) return { kind: 'older', storedSequence };
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

  #select(prefix: Buffer): [string, Buffer][] {
    const start = prefix.toString('latin1');
    const own = this.#users.get(start);
    if (own) return [...own];
    return [...this.#users].flatMap(([user, records]) => (user.startsWith(start) ? [...records] : []));
  }
}

function userOf(key: Buffer): string {
  return key.toString('latin1', 0, key.length - encoderPart(key).length);
}
