import { expect, test } from '@jest/globals';
import { LanguageModel, gatedCrossAttention, trainByteLevelBpe } from '@user-llm/cross-attention';
import type { TrainableEncoder } from '@user-llm/cross-attention';
import { openStore } from '@user-llm/embedding-store';

const size = { userTokens: 4, width: 16 };
const tokenizer = trainByteLevelBpe(['Heat (1995)', 'Toy Story (1995)'], { vocabularySize: 280 });
const base = LanguageModel.create({ width: 64, layers: 2, heads: 4, keyValueHeads: 2, context: 48 }, tokenizer, 1);
const messages = [{ role: 'user', content: 'What next?' }] as const;

/** A model that reads the users of an encoder called so, with weights of its own by seed. */
const serving = (encoder: string, seed: number) => {
  const known = { manifest: { ...size, hash: encoder } } as unknown as TrainableEncoder<never>;
  const integration = gatedCrossAttention({ every: 1, gate: 0.9 });
  return base.withUserEmbeddings({ encoder: known, integration, seed }).model.serve({ threads: 1 });
};

test('a user\u2019s keys and values lie in the store beside the embedding, and are not taken for those of another model', async () => {
  const store = await openStore('memory:');
  const served = await serving('encoder-1', 1);
  const embedding = {
    user: 'user-42',
    encoder: 'encoder-1',
    tokenizer: 'tokenizer-1',
    sequence: 3,
    watermark: { time: 1_790_000_000, count: 20 },
    dtype: 'float32' as const,
    shape: [size.userTokens, size.width] as [number, number],
    data: Float32Array.from({ length: size.userTokens * size.width }, (_, i) => Math.sin(i)),
  };
  await store.put(embedding);
  await store.put({ ...embedding, ...(await served.storedUserState(embedding)) });

  const found = await store.get({ user: 'user-42' }, { encoder: served.userStateEncoder! });
  if (found.status !== 'found') throw new Error(found.status);
  expect(found.embedding.watermark).toEqual(embedding.watermark);
  expect(found.embedding.data.byteLength).toBe(2 * 2 * 2 * size.userTokens * 16 * 4);
  const expected = await served.generate({ messages, user: embedding, maxNewTokens: 6 }).tokenIds;
  expect(await served.generate({ messages, user: found.embedding, maxNewTokens: 6 }).tokenIds).toEqual(expected);

  for (const [encoder, seed] of [
    ['encoder-2', 1],
    ['encoder-1', 2],
  ] as const) {
    const other = await serving(encoder, seed);
    expect(await store.get({ user: 'user-42' }, { encoder: other.userStateEncoder! })).toMatchObject({ status: 'other-encoder' });
    await expect(other.generate({ messages, user: found.embedding }).text).rejects.toThrow('was made by encoder user-state-');
    await other.dispose();
  }
  await store.erase({ user: 'user-42' });
  expect((await store.get({ user: 'user-42' }, { encoder: served.userStateEncoder! })).status).toBe('missing');
  await served.dispose();
  await store.close();
});
