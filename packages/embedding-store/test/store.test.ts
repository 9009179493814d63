import { rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Entry } from '../src/driver.js';
import { InvalidEmbeddingError, openStore, StoreAddressError, StoreClosedError } from '../src/index.js';
import type { NewUserEmbedding, UserEmbedding } from '../src/index.js';
import { MemoryDriver } from '../src/memory-driver.js';
import { EmbeddingStore } from '../src/store.js';
import { embedding, encoder, temporaryFolder } from './support.js';

const other = 'f'.repeat(64);

async function collect(entries: AsyncIterable<UserEmbedding>): Promise<string[]> {
  const users: string[] = [];
  for await (const { tenant, user, encoder: by } of entries) users.push(`${tenant}/${user}/${by[0]}`);
  return users.sort();
}

/** Aborts from a timer that is due already: it fires as soon as the event loop comes to it. */
function abortByTimer(): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('enough')), 0);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3);
  return stop.signal;
}

test('an abort behind the last record keeps eraseExpired from removing what it has found', async () => {
  const stop = new AbortController();
  class Aborting extends MemoryDriver {
    override async *scan(prefix: Buffer): AsyncGenerator<Entry> {
      yield* super.scan(prefix);
      stop.abort(new Error('enough'));
    }
  }
  let now = 1_800_000_000;
  await using store = new EmbeddingStore(new Aborting(), () => now);
  await store.put(embedding('a', { expiresAt: now + 1 }));
  now += 1;
  await expect(store.eraseExpired({ signal: stop.signal })).rejects.toThrow('enough');
  expect(await store.count()).toBe(1);
});

describe.each(['lmdb', 'memory'])('a store in %s', (driver) => {
  let folder: string;
  let now: number;
  let store: EmbeddingStore;

  beforeEach(async () => {
    folder = temporaryFolder();
    now = 1_800_000_000;
    store = await openStore(driver === 'lmdb' ? `lmdb:${folder}` : 'memory:', { now: () => now });
  });
  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each<[string, Partial<NewUserEmbedding>]>([
    ['float32', {}],
    ['float16', { dtype: 'float16', data: Uint16Array.from({ length: 32 }, (_, index) => index * 2000) }],
    ['int8', { dtype: 'int8', data: Int8Array.from({ length: 32 }, (_, index) => index - 16) }],
    ['a state', { state: Uint8Array.from([1, 2, 3]) }],
    ['an expiry and a tenant', { tenant: 'acme', expiresAt: 1_800_000_001 }],
    ['a matrix of whole pages', { shape: [16, 64], data: Float32Array.from({ length: 1024 }, (_, index) => index) }],
    ['a matrix of many pages', { shape: [50, 512], data: Float32Array.from({ length: 25600 }, (_, index) => index) }],
    ['an unknown event time', { watermark: { time: NaN, count: 0 } }],
  ])('gives back what was put: %s', async (_name, changes) => {
    const written = embedding('user-42', changes);
    expect(await store.put(written)).toEqual({ status: 'written' });
    const found = await store.get({ tenant: changes.tenant, user: 'user-42' }, { encoder });
    expect(found).toEqual({ status: 'found', embedding: { tenant: '', ...written, writtenAt: now } });
  });

  test('says why there is nothing', async () => {
    await store.put(embedding('a', { encoder: other }));
    await store.put(embedding('b', { expiresAt: now + 10 }));
    expect(await store.get({ user: 'nobody' }, { encoder })).toEqual({ status: 'missing' });
    expect(await store.get({ user: 'a' }, { encoder })).toEqual({ status: 'other-encoder', encoders: [other] });
    expect(await store.get({ user: 'b' }, { encoder })).toMatchObject({ status: 'found' });
    now += 10;
    expect(await store.get({ user: 'b' }, { encoder })).toEqual({ status: 'expired', expiresAt: now });
    expect(await collect(store.scan())).toEqual(['/a/f']);
  });

  test('keeps the newer of two embeddings, in whatever order they come', async () => {
    await store.put(embedding('a', { sequence: 5 }));
    expect(await store.put(embedding('a', { sequence: 4 }))).toEqual({ status: 'older', storedSequence: 5 });
    expect(await store.putMany([embedding('a', { sequence: 3 }), embedding('a', { sequence: 6 })])).toEqual({
      written: 1,
      older: 1,
    });
    expect(await store.get({ user: 'a' }, { encoder })).toMatchObject({
      embedding: { sequence: 6, data: embedding('a', { sequence: 6 }).data },
    });
    // Another encoder's sequence is another matter.
    expect(await store.put(embedding('a', { sequence: 1, encoder: other }))).toEqual({ status: 'written' });
  });

  describe('a put that says what it replaces', () => {
    test('is written over that alone', async () => {
      expect(await store.put(embedding('a', { sequence: 5 }), { replaces: 4 })).toEqual({
        status: 'changed',
        storedSequence: 'nothing',
      });
      expect(await store.put(embedding('a', { sequence: 5 }), { replaces: 'nothing' })).toEqual({ status: 'written' });
      expect(await store.put(embedding('a', { sequence: 6 }), { replaces: 'nothing' })).toEqual({
        status: 'changed',
        storedSequence: 5,
      });
      expect(await store.put(embedding('a', { sequence: 6 }), { replaces: 5 })).toEqual({ status: 'written' });
      expect(await store.put(embedding('a', { sequence: 7 }), { replaces: 5 })).toEqual({ status: 'changed', storedSequence: 6 });
      expect(await store.put(embedding('a', { sequence: 5 }), { replaces: 6 })).toEqual({ status: 'older', storedSequence: 6 });
      // Another encoder's record is another matter.
      expect(await store.put(embedding('a', { encoder: other }), { replaces: 'nothing' })).toEqual({ status: 'written' });
      expect(await store.get({ user: 'a' }, { encoder })).toMatchObject({ embedding: { sequence: 6 } });
    });

    test('of two at once that began from the same one, the second is told so', async () => {
      await store.put(embedding('a', { sequence: 5 }));
      const put = (time: number): Promise<unknown> =>
        store.put(embedding('a', { sequence: 6, watermark: { time, count: 6 } }), { replaces: 5 });
      expect(await Promise.all([put(1), put(2)])).toEqual([{ status: 'written' }, { status: 'changed', storedSequence: 6 }]);
      expect(await store.get({ user: 'a' }, { encoder })).toMatchObject({ embedding: { watermark: { time: 1 } } });
    });

    test('does not bring back who was erased meanwhile, and takes an expired one for nothing', async () => {
      await store.put(embedding('a', { sequence: 5, expiresAt: now + 10 }));
      await store.erase({ user: 'a' });
      const next = embedding('a', { sequence: 6, expiresAt: now + 10 });
      expect(await store.put(next, { replaces: 5 })).toEqual({ status: 'changed', storedSequence: 'nothing' });
      expect(await store.count()).toBe(0);
      await store.put(next);
      now += 10;
      expect(await store.put(next, { replaces: 6 })).toEqual({ status: 'changed', storedSequence: 'nothing' });
      expect(await store.put(embedding('a', { sequence: 2 }), { replaces: 'nothing' })).toEqual({ status: 'written' });
    });

    test.each([undefined, null, -1, 1.5, NaN, '5'])('refuses %p for it', async (replaces) => {
      const error: unknown = await store.put(embedding('a'), { replaces: replaces as number }).catch((thrown: unknown) => thrown);
      expect([(error as Error).name, (error as Error).message]).toEqual([
        'TypeError',
        expect.stringContaining(`"replaces" is ${String(replaces)}. Give the sequence`),
      ]);
      expect(await store.put(embedding('a'), {})).toEqual({ status: 'written' });
    });
  });

  test('an expired embedding stands in the way of none, not even of an older one', async () => {
    await store.put(embedding('a', { sequence: 50, expiresAt: now + 10 }));
    expect(await store.put(embedding('a', { sequence: 10 }))).toEqual({ status: 'older', storedSequence: 50 });
    now += 10;
    expect(await store.putMany([embedding('a', { sequence: 10 }), embedding('a', { sequence: 9 })])).toEqual({
      written: 1,
      older: 1,
    });
    expect(await store.get({ user: 'a' }, { encoder })).toMatchObject({ status: 'found', embedding: { sequence: 10 } });
  });

  test('a smaller or larger matrix replaces one of another size', async () => {
    for (const [sequence, width] of [8, 256, 1024, 255, 8, 2049].entries()) {
      await store.put(embedding('a', { sequence, shape: [4, width], data: new Float32Array(4 * width).fill(sequence) }));
      expect(await store.get({ user: 'a' }, { encoder })).toMatchObject({
        status: 'found',
        embedding: { sequence, shape: [4, width] },
      });
    }
  });

  test('takes many from an iterable or an async iterable, over several batches', async () => {
    const users = Array.from({ length: 700 }, (_, index) => `user-${index}`);
    async function* encode(): AsyncGenerator<NewUserEmbedding> {
      for (const user of users) yield embedding(user);
    }
    expect(await store.putMany(encode())).toEqual({ written: 700, older: 0 });
    expect(await store.putMany(users.map((user) => embedding(user, { encoder: other })))).toEqual({ written: 700, older: 0 });
    expect(await store.count()).toBe(1400);
    expect(await collect(store.scan({ encoder }))).toEqual(users.map((user) => `/${user}/e`).sort());
    const last = await store.get({ user: 'user-699' }, { encoder });
    expect(last).toMatchObject({ embedding: { data: embedding('user-699').data } });
  });

  test('many single puts at once all arrive', async () => {
    await Promise.all(Array.from({ length: 100 }, (_, index) => store.put(embedding(`user-${index}`))));
    await store.put(embedding('one more'));
    expect(await store.count()).toBe(101);
  });

  test('a source that fails leaves the batches before it, and its error', async () => {
    function* source(): Generator<NewUserEmbedding> {
      for (let index = 0; index < 600; index++) yield embedding(`user-${index}`);
      throw new Error('the encoder failed');
    }
    await expect(store.putMany(source())).rejects.toThrow('the encoder failed');
    expect(await store.count()).toBe(512);
  });

  test('an abort stops a scan and a batch write', async () => {
    await store.putMany([embedding('a'), embedding('b'), embedding('c')]);
    const aborted = AbortSignal.abort(new Error('enough'));
    await expect(collect(store.scan({ signal: aborted }))).rejects.toThrow('enough');
    await expect(collect(store.scan({ tenant: 'nobody', signal: aborted }))).rejects.toThrow('enough');
    await expect(store.putMany([embedding('d')], { signal: aborted })).rejects.toThrow('enough');
    expect(await store.count()).toBe(3);
  });

  test('an abort ends a batch write at once, though the source waits for ever, and nothing is written after it', async () => {
    const stop = new AbortController();
    let asked = 0;
    let closed = false;
    const iterator: AsyncIterator<NewUserEmbedding> = {
      next: () => {
        if (asked++ === 0) return Promise.resolve({ done: false, value: embedding('a') });
        setImmediate(() => stop.abort(new Error('enough')));
        return new Promise(() => undefined);
      },
      return: async () => {
        closed = true;
        return { done: true, value: undefined };
      },
    };
    const source = { [Symbol.asyncIterator]: () => iterator };
    await expect(store.putMany(source, { signal: stop.signal })).rejects.toThrow('enough');
    expect([closed, await store.count()]).toEqual([true, 0]);
  });

  test('a source that ends by itself when the signal aborts does not hide the abort', async () => {
    const stop = new AbortController();
    async function* source(): AsyncGenerator<NewUserEmbedding> {
      yield embedding('a');
      stop.abort(new Error('enough'));
    }
    await expect(store.putMany(source(), { signal: stop.signal })).rejects.toThrow('enough');
    expect(await store.count()).toBe(0);
  });

  test('a batch write that is not aborted reads its source to the end, and closes one that it refuses', async () => {
    const { signal } = new AbortController();
    let closed = false;
    function* source(last: NewUserEmbedding): Generator<NewUserEmbedding> {
      try {
        yield embedding('a');
        yield last;
        yield embedding('c');
      } finally {
        closed = true;
      }
    }
    expect(await store.putMany(source(embedding('b')), { signal })).toEqual({ written: 3, older: 0 });
    closed = false;
    await expect(store.putMany(source(embedding('')), { signal })).rejects.toThrow(InvalidEmbeddingError);
    expect(closed).toBe(true);
  });

  test('eraseExpired removes what is past its time, of one tenant or of all', async () => {
    await store.putMany([
      ...Array.from({ length: 300 }, (_, index) => embedding(`user-${index}`, { expiresAt: now + 1 + (index % 2) })),
      embedding('a', { tenant: 'acme', expiresAt: now + 1 }),
      embedding('b'),
    ]);
    expect(await store.eraseExpired()).toBe(0);
    now += 1;
    expect(await store.eraseExpired({ tenant: 'acme' })).toBe(1);
    expect(await store.eraseExpired()).toBe(150);
    expect(await store.count()).toBe(151);
    now += 1;
    const aborted = AbortSignal.abort(new Error('enough'));
    await expect(store.eraseExpired({ signal: aborted })).rejects.toThrow('enough');
    await expect(store.eraseExpired({ tenant: 'nobody', signal: aborted })).rejects.toThrow('enough');
    // A newer embedding that comes meanwhile is not past its time.
    const [erased] = await Promise.all([store.eraseExpired(), store.put(embedding('user-1', { sequence: 2 }))]);
    expect([erased, await store.count()]).toEqual([149, 2]);
    expect(await store.get({ user: 'user-1' }, { encoder })).toMatchObject({ status: 'found', embedding: { sequence: 2 } });
  });

  describe('with more records than one turn of the event loop takes', () => {
    beforeEach(() => store.putMany(Array.from({ length: 3000 }, (_, index) => embedding(`user-${index}`))));

    test.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
      ['a scan', (signal) => collect(store.scan({ signal }))],
      ['a scan of an encoder that made nothing', (signal) => collect(store.scan({ encoder: other, signal }))],
      ['eraseExpired', (signal) => store.eraseExpired({ signal })],
      ['a count', (signal) => store.count({ signal })],
      ['a count of one encoder', (signal) => store.count({ encoder, signal })],
    ])('%s lets a timer stop it', async (_name, use) => {
      await expect(use(abortByTimer())).rejects.toThrow('enough');
    });

    test('a scan gives way sooner where records are large', async () => {
      const state = new Uint8Array(1024 * 1024);
      await store.putMany(Array.from({ length: 8 }, (_, index) => embedding(`large-${index}`, { tenant: 'acme', state })));
      await expect(collect(store.scan({ tenant: 'acme', signal: abortByTimer() }))).rejects.toThrow('enough');
    });

    test('nothing is counted twice or left out between turns', async () => {
      await store.put(embedding('a', { tenant: 'acme', encoder: other }));
      expect(await store.count()).toBe(3001);
      expect(await store.count({ tenant: '' })).toBe(3000);
      expect(await store.count({ encoder })).toBe(3000);
      expect(await store.count({ encoder: other })).toBe(1);
      expect(new Set(await collect(store.scan())).size).toBe(3001);
      expect(await store.stats()).toMatchObject({ records: 3001 });
    });

    test('a miss is a lookup, and no walk over other users', async () => {
      let turns = 0;
      const count = (): void => void turns++;
      setImmediate(count);
      expect(await store.get({ user: 'nobody' }, { encoder })).toEqual({ status: 'missing' });
      expect(await store.get({ user: 'user-7' }, { encoder: other })).toMatchObject({ status: 'other-encoder' });
      expect(turns).toBe(0);
    });

    test('close ends a scan that is between two turns', async () => {
      const refused = expect(store.scan({ encoder: other }).next()).rejects.toThrow(StoreClosedError);
      await store.close();
      await refused;
    });
  });

  test('a batch write lets a timer stop it between two batches', async () => {
    const source = Array.from({ length: 2000 }, (_, index) => embedding(`user-${index}`));
    await expect(store.putMany(source, { signal: abortByTimer() })).rejects.toThrow('enough');
    expect(await store.count()).toBeLessThan(2000);
  });

  test('tenants do not see each other', async () => {
    await store.putMany([
      embedding('a', { tenant: 'acme' }),
      embedding('a', { tenant: 'zeta' }),
      embedding('b', { tenant: 'acme' }),
      embedding('a'),
    ]);
    expect(await store.get({ tenant: 'zeta', user: 'b' }, { encoder })).toEqual({ status: 'missing' });
    expect(await collect(store.scan({ tenant: 'acme' }))).toEqual(['acme/a/e', 'acme/b/e']);
    expect(await collect(store.scan({ tenant: '' }))).toEqual(['/a/e']);
    expect(await store.erase({ tenant: 'acme', user: 'a' })).toBe(1);
    expect(await collect(store.scan())).toEqual(['/a/e', 'acme/b/e', 'zeta/a/e']);
    expect(await store.count({ tenant: 'acme' })).toBe(1);
  });

  test('delete removes one encoder, erase removes them all', async () => {
    await store.putMany([embedding('a'), embedding('a', { encoder: other }), embedding('ab'), embedding('b')]);
    expect(await store.delete({ user: 'b' }, { encoder: other })).toBe(false);
    expect(await store.delete({ user: 'b' }, { encoder })).toBe(true);
    expect(await store.erase({ user: 'a' })).toBe(2);
    expect(await store.erase({ user: 'a' })).toBe(0);
    expect(await store.get({ user: 'a' }, { encoder })).toEqual({ status: 'missing' });
    expect(await collect(store.scan())).toEqual(['/ab/e']);
    expect(await store.count({ encoder: other })).toBe(0);
    expect(await store.stats()).toMatchObject({ driver, records: 1 });
  });

  test('a scan under way gives no user once the erasure is acknowledged, and of one put anew the new record', async () => {
    await store.putMany(['a', 'b', 'c', 'd'].map((user) => embedding(user)));
    const seen: [string, number][] = [];
    for await (const { user, sequence } of store.scan()) {
      seen.push([user, sequence]);
      if (user !== 'a') continue;
      await store.erase({ user: 'b' });
      await store.delete({ user: 'c' }, { encoder });
      await store.put(embedding('d', { sequence: 2 }));
    }
    expect(seen).toEqual([
      ['a', 1],
      ['d', 2],
    ]);
  });

  test('a scan whose every user is put again on the way comes to an end', async () => {
    await store.putMany(['a', 'b', 'c'].map((user) => embedding(user)));
    let seen = 0;
    for await (const found of store.scan()) {
      seen++;
      await store.erase(found);
      await store.put(found);
    }
    expect(seen).toBe(3);
  });

  test.each<[string, Partial<NewUserEmbedding>]>([
    ['user', { user: '' }],
    ['user', { user: 'half \ud800 pair' }],
    ['user', { user: 'x'.repeat(5000) }],
    ['tenant', { tenant: 7 as unknown as string }],
    ['tenant', { tenant: null as unknown as string }],
    ['encoder', { encoder: undefined as unknown as string }],
    ['sequence', { sequence: 1.5 }],
    ['watermark.count', { watermark: { time: 1, count: -1 } }],
    ['dtype', { dtype: 'float64' as 'float32' }],
    ['shape', { shape: [0, 8] }],
    ['data', { data: new Float32Array(31) }],
    ['data', { data: new Int8Array(32) }],
    ['state', { state: 'x' as unknown as Uint8Array }],
    ['expiresAt', { expiresAt: NaN }],
    ['expiresAt', { expiresAt: 1_800_000_000_000 }],
  ])('refuses a bad field and names it: %s', async (field, changes) => {
    const error: unknown = await store.put(embedding('a', changes)).catch((thrown: unknown) => thrown);
    expect(InvalidEmbeddingError.isInstance(error) && error.field).toBe(field);
    expect(await store.count()).toBe(0);
  });

  test('after close every method throws, and close is fine', async () => {
    await store.put(embedding('a'));
    const scan = store.scan();
    await store.close();
    await store.close();
    const uses = [
      store.put(embedding('b')),
      store.putMany([embedding('b')]),
      store.get({ user: 'a' }, { encoder }),
      scan.next(),
      store.delete({ user: 'a' }, { encoder }),
      store.erase({ user: 'a' }),
      store.eraseExpired(),
      store.count(),
      store.stats(),
      store.compact(),
    ];
    for (const result of await Promise.allSettled(uses)) {
      expect(result.status === 'rejected' && StoreClosedError.isInstance(result.reason)).toBe(true);
    }
  });

  test('close waits for reads and a compaction that were asked for', async () => {
    await store.putMany([embedding('a', { encoder: other }), embedding('b')]);
    const reads = [store.get({ user: 'nobody' }, { encoder }), store.get({ user: 'a' }, { encoder }), store.count()];
    const rest = [store.stats(), store.compact()];
    await store.close();
    expect(await Promise.all(reads)).toEqual([{ status: 'missing' }, { status: 'other-encoder', encoders: [other] }, 2]);
    await Promise.all(rest);
  });

  test('a scan that goes on after close throws, also where it keeps nothing of what it passes', async () => {
    await store.putMany(Array.from({ length: 200 }, (_, index) => embedding(`user-${index}`)));
    await store.put(embedding('user-99', { encoder: other }));
    const scan = store.scan({ encoder: other });
    expect((await scan.next()).value).toMatchObject({ user: 'user-99' });
    await store.close();
    await expect(scan.next()).rejects.toThrow(StoreClosedError);
  });

  test('a batch that is full only after close is refused', async () => {
    const source = async function* (): AsyncGenerator<NewUserEmbedding> {
      yield embedding('a');
      await store.close();
    };
    await expect(store.putMany(source())).rejects.toThrow(StoreClosedError);
  });

  test('is closed by asyncDispose', async () => {
    await store[Symbol.asyncDispose]();
    await expect(store.count()).rejects.toThrow(/closed/);
  });
});

test.each(['redis://localhost', 'users', '', 'lmdb:', 'lmdb://tmp/x', 'memory:x', 'constructor:'])(
  'the address "%s" is refused, and the message lists what exists',
  async (address) => {
    const error: unknown = await openStore(address).catch((thrown: unknown) => thrown);
    expect(StoreAddressError.isInstance(error) && error.known).toEqual(['lmdb:DIR', 'memory:']);
    expect((error as Error).message).toContain('lmdb:DIR and memory:');
  },
);
