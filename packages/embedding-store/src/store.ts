import { abortable } from './abortable.js';
import type { Driver, Entry, StoreStats, WalkOptions, Write, WriteOutcome } from './driver.js';
import type { NewUserEmbedding, UserEmbedding } from './embedding.js';
import { checkEmbedding, checkName } from './embedding.js';
import { DamagedRecordError, StoreClosedError } from './errors.js';
import type { KeyNames } from './keys.js';
import { allPrefix, encoderPart, encoderSuffix, keyNames, recordKey, tenantPrefix, userPrefix } from './keys.js';
import type { DecodedRecord } from './record.js';
import { decodeRecord, encodeRecord, recordExpired } from './record.js';
import { checkReplaced } from './replaced.js';
import { bytesPerTurn, nextTurn } from './turn.js';

/** Names a user; `tenant` where one store serves several customers. */
export interface UserKey {
  tenant?: string;
  user: string;
}

/** What `get` finds. */
export type GetResult =
  | { status: 'found'; embedding: UserEmbedding }
  /** The user has no record at all. */
  | { status: 'missing' }
  /** There is one, past its time. */
  | { status: 'expired'; expiresAt: number }
  /** The user has records, of these encoders only. A model must not be given those. */
  | { status: 'other-encoder'; encoders: string[] }
  /** The record fails its checks; encode the user again and put it. */
  | { status: 'damaged'; reason: string };

/** What `put` did. */
export type PutResult =
  | { status: 'written' }
  /** A newer embedding of this user by this encoder was there, not past its time, and stays. */
  | { status: 'older'; storedSequence: number }
  /** Another embedding than the put replaces is there, or none that can be served: get again, and begin from that. */
  | { status: 'changed'; storedSequence: number | 'nothing' };

/** Options of `put`. */
export interface PutOptions {
  /**
   * The sequence of the embedding that this one was made from, or `'nothing'` where `get` found none: written only while that stands so,
   * `changed` otherwise. Left out: written over any that is not newer.
   */
  replaces?: number | 'nothing';
}

const batchRecords = 256;
const batchBytes = 4 * 1024 * 1024;

/**
 * One matrix per user and encoder. Open it with `openStore`.
 * Every method but `close` throws StoreClosedError after `close`.
 */
export class EmbeddingStore {
  readonly #driver: Driver;
  readonly #now: () => number;
  /** What close() waits for besides writes, which the driver sees through. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  /** @param now the clock, in unix seconds */
  constructor(driver: Driver, now: () => number = () => Date.now() / 1000) {
    this.#driver = driver;
    this.#now = now;
  }

  /**
   * Writes one embedding; resolves when it would survive a power cut.
   * @throws InvalidEmbeddingError, StoreFullError, StoreAccessError, TypeError for `replaces` that is neither a sequence nor 'nothing'
   */
  async put(embedding: NewUserEmbedding, options: PutOptions = {}): Promise<PutResult> {
    this.#requireOpen();
    checkReplaced(options);
    const [outcome] = await this.#driver.apply([{ ...this.#putOf(embedding), replaces: options.replaces }]);
    if (outcome.kind === 'older') return { status: 'older', storedSequence: outcome.storedSequence };
    if (outcome.kind === 'changed') return { status: 'changed', storedSequence: outcome.storedSequence };
    return { status: 'written' };
  }

  /**
   * Writes many, in batches; each batch is written whole or not at all, and the result is there when all are on the disk.
   * Where the source or an embedding in it fails, the batches before it stand. So they do when the signal aborts, which is not kept
   * waiting by a source that is, and which asks the source to end.
   * @returns how many were written, and how many were refused because a newer one was there
   * @throws InvalidEmbeddingError (names the field), StoreFullError, StoreAccessError, what the source throws, the signal's reason
   */
  async putMany(
    embeddings: Iterable<NewUserEmbedding> | AsyncIterable<NewUserEmbedding>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ written: number; older: number }> {
    this.#requireOpen();
    const totals = { written: 0, older: 0 };
    // The next batch is gathered (encoded, often) while the one before is on its way to the disk.
    let underWay: Promise<void> = Promise.resolve();
    const send = async (batch: Write[]): Promise<void> => {
      await underWay;
      // A source that is there already and a store in memory would never wait for anything else.
      await nextTurn(signal);
      this.#requireOpen();
      underWay = this.#driver.apply(batch).then((outcomes) => {
        for (const outcome of outcomes) totals[outcome.kind === 'older' ? 'older' : 'written']++;
      });
      underWay.catch(() => undefined);
    };
    let batch: Write[] = [];
    let bytes = 0;
    try {
      for await (const embedding of abortable(embeddings, signal)) {
        this.#requireOpen();
        const write = this.#putOf(embedding);
        batch.push(write);
        bytes += write.record.length;
        if (batch.length < batchRecords && bytes < batchBytes) continue;
        await send(batch);
        batch = [];
        bytes = 0;
      }
      if (batch.length > 0) await send(batch);
    } finally {
      await underWay;
    }
    return totals;
  }

  /**
   * Reads a user's embedding by the encoder whose hash is `encoder`. What is not there, or cannot be served, is a status and no error.
   *
   * @throws InvalidEmbeddingError where tenant, user or encoder is no name that a record can have
   */
  async get(key: UserKey, options: { encoder: string }): Promise<GetResult> {
    this.#requireOpen();
    return this.#untilDone(this.#get(key, options));
  }

  async #get({ tenant = '', user }: UserKey, { encoder }: { encoder: string }): Promise<GetResult> {
    this.#checkUser(tenant, user);
    checkName('encoder', encoder);
    const record = await this.#driver.get(recordKey(tenant, user, encoder));
    if (!record) return this.#explainMiss(tenant, user);
    const decoded = decodeRecord(record);
    if (!decoded.ok) return { status: 'damaged', reason: decoded.reason };
    const { embedding } = decoded;
    if (embedding.tenant !== tenant || embedding.user !== user || embedding.encoder !== encoder) {
      return { status: 'damaged', reason: 'it is another record than its key says' };
    }
    if (this.#expired(embedding)) return { status: 'expired', expiresAt: embedding.expiresAt! };
    return { status: 'found', embedding };
  }

  /**
   * Reads every embedding that is not expired, in no promised order: of one tenant, of one encoder, or all.
   * Each is read when it is asked for: what was erased by then is not given; records written meanwhile may or may not be. A damaged record goes to `onDamaged`, with what its key says of whose it is (ids of
   * more than 200 bytes are left out); without that, it throws DamagedRecordError.
   */
  async *scan({
    tenant,
    encoder,
    signal,
    onDamaged,
  }: {
    tenant?: string;
    encoder?: string;
    signal?: AbortSignal;
    onDamaged?: (reason: string, of: KeyNames) => void;
  } = {}): AsyncGenerator<UserEmbedding, void, undefined> {
    const [prefix, keep] = this.#selection(tenant, encoder);
    for await (const { key, record } of this.#entries(prefix, { keep, signal })) {
      const decoded: DecodedRecord = decodeRecord(record);
      if (decoded.ok) {
        if (!this.#expired(decoded.embedding)) yield decoded.embedding;
      } else if (onDamaged) onDamaged(decoded.reason, keyNames(key));
      else throw new DamagedRecordError(decoded.reason, keyNames(key));
    }
  }

  /** Removes a user's embedding by one encoder; says whether there was one. */
  async delete({ tenant = '', user }: UserKey, { encoder }: { encoder: string }): Promise<boolean> {
    this.#requireOpen();
    this.#checkUser(tenant, user);
    checkName('encoder', encoder);
    return removed(await this.#driver.apply([{ kind: 'delete', key: recordKey(tenant, user, encoder) }])) > 0;
  }

  /**
   * Removes every record of a user, whatever encoder made it; returns how many there were.
   * In an LMDB file the removed bytes stay on the disk until they are overwritten or `compact()` has run.
   */
  async erase({ tenant = '', user }: UserKey): Promise<number> {
    this.#requireOpen();
    this.#checkUser(tenant, user);
    return removed(await this.#driver.apply([{ kind: 'erase', prefix: userPrefix(tenant, user) }]));
  }

  /**
   * Removes every record that is past its time, of one tenant or of all; returns how many there were. Damaged records stay, as their
   * time is not known: `scan` names them. For the bytes on the disk see `erase`.
   */
  async eraseExpired({ tenant, signal }: { tenant?: string; signal?: AbortSignal } = {}): Promise<number> {
    const now = this.#now();
    const [prefix] = this.#selection(tenant, undefined);
    let erased = 0;
    let batch: Write[] = [];
    const send = async (): Promise<void> => {
      signal?.throwIfAborted();
      this.#requireOpen();
      erased += removed(await this.#driver.apply(batch));
      batch = [];
    };
    for await (const { key, record } of this.#entries(prefix, { signal })) {
      if (recordExpired(record, now)) batch.push({ kind: 'delete-expired', key, now });
      if (batch.length === batchRecords) await send();
    }
    if (batch.length > 0) await send();
    return erased;
  }

  /**
   * How many records there are (expired ones included): of one tenant, of one encoder, or all. Records written or erased meanwhile may
   * or may not be counted.
   */
  async count({ tenant, encoder, signal }: { tenant?: string; encoder?: string; signal?: AbortSignal } = {}): Promise<number> {
    this.#requireOpen();
    signal?.throwIfAborted();
    const [prefix, keep] = this.#selection(tenant, encoder);
    return this.#untilDone(this.#driver.count(prefix, { keep, signal }));
  }

  /** Records, bytes, and the bytes that only `compact()` gives back. */
  async stats(): Promise<StoreStats> {
    this.#requireOpen();
    return this.#untilDone(this.#driver.stats());
  }

  /**
   * Rewrites the file without what erased and replaced records left in it, and puts the new file in its place.
   * Reads and writes of this handle wait meanwhile. The disk's own blocks are freed, not wiped.
   * @throws StoreInUseError where another handle or process has the store open
   */
  async compact(): Promise<{ bytesBefore: number; bytesAfter: number }> {
    this.#requireOpen();
    return this.#untilDone(this.#driver.compact());
  }

  /** Waits for what was asked for, and closes; a scan that goes on after it throws StoreClosedError. Closing again is fine. */
  async close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#underWay).then(() => this.#driver.close());
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What the driver's scan gives, until the store is closed or the signal aborts. */
  async *#entries(prefix: Buffer, options: WalkOptions): AsyncGenerator<Entry, void, undefined> {
    const { signal } = options;
    this.#requireOpen();
    signal?.throwIfAborted();
    let bytes = 0;
    for await (const entry of this.#driver.scan(prefix, options)) {
      signal?.throwIfAborted();
      yield entry;
      this.#requireOpen();
      bytes += entry.record.length;
      if (bytes < bytesPerTurn) continue;
      await nextTurn(signal);
      bytes = 0;
    }
    this.#requireOpen();
  }

  #requireOpen(): void {
    if (this.#closing) throw new StoreClosedError();
  }

  #untilDone<T>(work: Promise<T>): Promise<T> {
    const done = (): boolean => this.#underWay.delete(work);
    this.#underWay.add(work);
    work.then(done, done);
    return work;
  }

  #checkUser(tenant: string, user: string): void {
    checkName('tenant', tenant, { empty: true });
    checkName('user', user);
  }

  #expired({ expiresAt }: UserEmbedding): boolean {
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #putOf(embedding: NewUserEmbedding): Write & { kind: 'put' } {
    checkEmbedding(embedding);
    const { tenant = '', user, encoder, sequence } = embedding;
    const now = this.#now();
    return { kind: 'put', key: recordKey(tenant, user, encoder), record: encodeRecord(embedding, now), sequence, now };
  }

  #selection(tenant: string | undefined, encoder: string | undefined): [Buffer, ((key: Uint8Array) => boolean) | undefined] {
    if (tenant !== undefined) checkName('tenant', tenant, { empty: true });
    if (encoder !== undefined) checkName('encoder', encoder);
    const prefix = tenant === undefined ? allPrefix() : tenantPrefix(tenant);
    if (encoder === undefined) return [prefix, undefined];
    const suffix = encoderSuffix(encoder);
    return [prefix, (key) => suffix.equals(encoderPart(key))];
  }

  async #explainMiss(tenant: string, user: string): Promise<GetResult> {
    const encoders: string[] = [];
    for await (const { record } of this.#driver.scan(userPrefix(tenant, user))) {
      const decoded = decodeRecord(record);
      if (decoded.ok) encoders.push(decoded.embedding.encoder);
    }
    return encoders.length > 0 ? { status: 'other-encoder', encoders } : { status: 'missing' };
  }
}

function removed(outcomes: readonly WriteOutcome[]): number {
  return outcomes.reduce((sum, outcome) => {
    if (outcome.kind !== 'removed') throw new Error('internal: a removal must report what it removed');
    return sum + outcome.records;
  }, 0);
}
