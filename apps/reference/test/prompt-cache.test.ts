import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LanguageModel, trainByteLevelBpe, type ServedModel } from '@user-llm/cross-attention';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { Prompts } from '../src/prompts.js';
import { PromptCache } from '../src/systems/prompt-cache.js';

const titles = ['Alien (1979)', 'Heat (1995)', 'Big (1988)', 'Them (2006)', 'Fargo (1996)', 'Jaws (1975)'];
const shape = { width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 64, context: 256 };
const user = { user: 'u1', tokenizer: 'events', watermark: { time: 1000, count: 4 } };

let served: ServedModel;
let store: EmbeddingStore;
let prompts: Prompts;
beforeAll(async () => {
  const model = LanguageModel.create(shape, trainByteLevelBpe(titles, { vocabularySize: 300 }), 1);
  served = await model.withItemTokens(titles.map((text) => ({ id: text, text }))).serve({ threads: 1 });
  store = await openStore('memory:');
  prompts = new Prompts(served.tokenizer, titles);
});
afterAll(async () => {
  await served.dispose();
  await store.close();
});

describe('a cache of prompts', () => {
  it('gives the rankings of the whole prompt, and runs only what stands behind the history', async () => {
    const cache = new PromptCache(store, served);
    const history = [0, 2, 5, 1];
    const promptIds = prompts.withHistory(history, 'What is next?');
    const tokens = promptIds.length - 5;
    const { layers, keyValueHeads, width, heads } = shape;
    // Keys and values of each layer, in float32.
    expect(await cache.put(user, promptIds, tokens)).toBe(2 * layers * keyValueHeads * (width / heads) * tokens * 4);
    const prefix = await cache.get('u1', promptIds, tokens);
    const request = { promptIds, by: 'item-tokens', top: titles.length } as const;
    const [cached, whole] = [await served.rank({ ...request, prefix }), await served.rank(request)];
    expect([...cached.items]).toEqual([...whole.items]);
    cached.scores.forEach((score, i) => expect(score).toBeCloseTo(whole.scores[i], 4));
    expect(cached.flops).toBeLessThan(whole.flops / 3);
  });

  it('gives the same from several records, where one would be larger than a store takes', async () => {
    const promptIds = prompts.withHistory([0, 2, 5, 1], 'What is next?');
    const tokens = promptIds.length - 5;
    const { layers, keyValueHeads, width, heads } = shape;
    const ofLayer = keyValueHeads * (width / heads) * tokens * 4;
    const [whole, parts, single] = [undefined, 3 * ofLayer, 1].map(
      (partBytes) => new PromptCache(store, served, partBytes === undefined ? {} : { partBytes }),
    );
    const own = (name: string) => ({ ...user, user: name });
    expect(await whole.put(own('whole'), promptIds, tokens)).toBe(2 * layers * ofLayer);
    expect(await parts.put(own('parts'), promptIds, tokens)).toBe(2 * layers * ofLayer);
    expect(await single.put(own('single'), promptIds, tokens)).toBe(2 * layers * ofLayer);
    const expected = await whole.get('whole', promptIds, tokens);
    for (const [cache, name, records] of [
      [parts, 'parts', 2],
      [single, 'single', 2 * layers],
    ] as const) {
      const { milliseconds: _, ...found } = (await cache.get(name, promptIds, tokens))!;
      expect(expected).toMatchObject(found);
      expect((await store.get({ user: name }, { encoder: 'another' })) as object).toMatchObject({
        encoders: { length: records },
      });
    }
    await store.erase({ user: 'parts' });
    expect(await parts.get('parts', promptIds, tokens)).toBeUndefined();
  });

  it('serves another question behind the same history, and nobody whose prompt was not kept', async () => {
    const cache = new PromptCache(store, served);
    const first = prompts.withHistory([3, 4], 'What is next?');
    const second = prompts.withHistory([3, 4], 'Recommend something.');
    const tokens = first.findIndex((id, i) => id !== second[i]);
    await cache.put(user, first, tokens);
    const prefix = await cache.get('u1', second, tokens);
    const request = { promptIds: second, by: 'item-tokens', top: 3 } as const;
    expect([...(await served.rank({ ...request, prefix })).items]).toEqual([...(await served.rank(request)).items]);
    expect(await cache.get('u2', second, tokens)).toBeUndefined();
  });

  it('gives nothing for another history than the one that was kept, or for more of it', async () => {
    const cache = new PromptCache(store, served);
    const kept = prompts.withHistory([3, 4], 'What is next?');
    const other = prompts.withHistory([4, 3], 'What is next?');
    const tokens = kept.length - 5;
    await cache.put({ ...user, user: 'u3' }, kept, tokens);
    expect(await cache.get('u3', kept, tokens)).toMatchObject({ ids: kept.slice(0, tokens) });
    expect(await cache.get('u3', other, tokens)).toBeUndefined();
    expect(await cache.get('u3', kept, tokens - 1)).toBeUndefined();
  });
});
