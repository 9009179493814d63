import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { byItemTokens } from '../src/ranking/by-item-tokens.js';
import type { CatalogueRanker } from '../src/ranking/catalogue-ranker.js';
import { RequestGate } from '../src/serving/request-gate.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { filmModel, films } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a gate', () => {
  /** Requests that end when they are told to; `begun` says which ones have begun, in order. */
  function requests(gate: RequestGate) {
    const begun: number[] = [];
    const end: ((error?: Error) => void)[] = [];
    const ask = (i: number, signal?: AbortSignal) =>
      gate.run(() => {
        begun.push(i);
        return new Promise<number>((resolve, reject) => (end[i] = (error) => (error ? reject(error) : resolve(i))));
      }, signal);
    return { begun, end, ask };
  }

  test('lets so many through at once, the others in the order in which they came', async () => {
    const gate = new RequestGate(2);
    const { begun, end, ask } = requests(gate);
    const all = [0, 1, 2, 3, 4].map((i) => ask(i));
    await settled();
    expect([begun, gate.load]).toEqual([[0, 1], 5]);
    end[1]();
    await settled();
    expect(begun).toEqual([0, 1, 2]);
    end[2]();
    end[0]();
    await settled();
    expect(begun).toEqual([0, 1, 2, 3, 4]);
    end[3]();
    end[4]();
    expect(await Promise.all(all)).toEqual([0, 1, 2, 3, 4]);
    expect(gate.load).toBe(0);
    const later = ask(5);
    end[5]();
    expect(await later).toBe(5);
  });

  test('gives the place of one that fails to the next one', async () => {
    const { begun, end, ask } = requests(new RequestGate(1));
    const [failing, next] = [ask(0), ask(1)];
    end[0](new Error('its own fault'));
    await expect(failing).rejects.toThrow('its own fault');
    await settled();
    expect(begun).toEqual([0, 1]);
    end[1]();
    expect(await next).toBe(1);
  });

  test('is left by one whose signal is given while it waits, or was before', async () => {
    const gate = new RequestGate(1);
    const { begun, end, ask } = requests(gate);
    const stop = new AbortController();
    const [first, stopped, last] = [ask(0), ask(1, stop.signal), ask(2)];
    stop.abort(new Error('gone'));
    await expect(stopped).rejects.toThrow('gone');
    await expect(ask(3, stop.signal)).rejects.toThrow('gone');
    expect(gate.load).toBe(2);
    end[0]();
    await settled();
    end[2]();
    expect(await Promise.all([first, last])).toEqual([0, 2]);
    expect(begun).toEqual([0, 2]);
  });
});

describe('a served model', () => {
  const prompt = 'What next?';
  const encoder = ToyEncoder.create(2);
  const integration = gatedCrossAttention({ every: 1, gate: 0.9 });
  const { model } = filmModel.withItemTokens(films).withUserEmbeddings({ encoder, integration, seed: 3 });
  let served: ServedModel;
  beforeAll(async () => void (served = await model.serve({ threads: 1, atOnce: 2 })));
  afterAll(() => served.dispose());

  test('ranks a few at a time, and answers as it does one by one', async () => {
    const users = films.map((_, i) => encoder.encode([i, (i + 2) % 6]));
    const expected = [];
    for (const user of users) expected.push((await served.rank({ prompt, user, by: 'item-tokens', top: 6 })).items);
    const byTokens = byItemTokens(films.length);
    let running = 0;
    let most = 0;
    const by: CatalogueRanker = {
      ...byTokens,
      async rank(asked, options) {
        most = Math.max(most, ++running);
        const ranked = await byTokens.rank(asked, options);
        running--;
        return ranked;
      },
    };
    const rankings = users.map((user) => served.rank({ prompt, user, by, top: 6 }));
    expect(served.load).toBe(users.length);
    const done: number[] = [];
    rankings.forEach((each, i) => void each.then(() => done.push(i)));
    expect((await Promise.all(rankings)).map(({ items }) => items)).toEqual(expected);
    expect(most).toBe(2);
    expect(done).toEqual(users.map((_, i) => i));
    expect(served.load).toBe(0);
  });

  test('drops what is stopped while it waits, and counts its schedulers\u2019 requests', async () => {
    const stop = new AbortController();
    const request = { prompt, maxNewTokens: 6 };
    const running = [1, 2].map(() => served.generate(request).tokenIds);
    await Promise.resolve();
    const waiting = [
      served.generate({ ...request, signal: stop.signal }).tokenIds,
      served.rank({ prompt, by: 'item-tokens', top: 1, signal: stop.signal }),
    ];
    const scheduled = served.scheduler().generate(request).tokenIds;
    await settled();
    expect(served.load).toBe(5);
    stop.abort(new Error('gone'));
    for (const each of waiting) await expect(each).rejects.toThrow('gone');
    await Promise.all([...running, scheduled]);
    expect(served.load).toBe(0);
  });

  test('says what is wrong with a request before it waits', async () => {
    const running = [1, 2].map(() => served.generate({ prompt, maxNewTokens: 6 }).tokenIds);
    await Promise.resolve();
    await expect(served.rank({ prompt, by: 'item-tokens', top: 0 })).rejects.toThrow('top must be');
    expect(served.load).toBe(2);
    await Promise.all(running);
  });

  test('answers what waits when it is closed', async () => {
    const other = await model.serve({ threads: 1, atOnce: 1 });
    const user = encoder.encode([1, 2]);
    const rankings = [1, 2, 3].map(() => other.rank({ prompt, user, by: 'item-tokens', top: 2 }));
    await other.dispose();
    for (const { items } of await Promise.all(rankings)) expect(items).toHaveLength(2);
  });

  test('runs one at a time at least', async () => {
    const refusal = new RangeError('atOnce must be a whole number of at least 1, not 0.');
    await expect(filmModel.serve({ atOnce: 0 })).rejects.toThrow(refusal);
  });
});
