import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EncoderMismatchError } from '../src/errors.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder } from './toy-encoder.js';

const tokenizer = trainByteLevelBpe(['Heat (1995)', 'Toy Story (1995)'], { vocabularySize: 280 });
const base = LanguageModel.create({ width: 64, layers: 2, heads: 4, keyValueHeads: 2, context: 48 }, tokenizer, 1);
const encoder = ToyEncoder.create(2);
const prompt = 'What next?';

describe.each<[string, Integration, number]>([
  ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.9 }), 2 * 2 * 2 * 2 * 16],
  ['soft prompt', softPrompt(), 2 * 64],
  ['both together', combined([softPrompt(), gatedCrossAttention({ every: 1, gate: 0.9 })]), 2 * 64 + 2 * 2 * 2 * 2 * 16],
])('a user kept ready to be read: %s', (_, integration, numbers) => {
  let served: ServedModel;
  let other: ServedModel;
  beforeAll(async () => {
    served = await base.withUserEmbeddings({ encoder, integration, seed: 3 }).model.serve({ threads: 1 });
    other = await base.withUserEmbeddings({ encoder, integration, seed: 4 }).model.serve({ threads: 1 });
  });
  afterAll(async () => {
    await served.dispose();
    await other.dispose();
  });

  test('is a matrix that answers as the embedding does, and computes nothing', async () => {
    const embedding = encoder.encode([1, 4]);
    const stored = await served.storedUserState(embedding);
    expect(stored.encoder).toBe(served.userStateEncoder);
    expect(stored.shape[0] * stored.shape[1]).toBe(numbers);
    expect(stored.data).toHaveLength(numbers);
    const expected = served.generate({ prompt, user: embedding, maxNewTokens: 8 });
    const answer = served.generate({ prompt, user: structuredClone(stored), maxNewTokens: 8 });
    expect(await answer.tokenIds).toEqual(await expected.tokenIds);
    expect((await answer.usage).flops).toBeLessThan((await expected.usage).flops);
    expect((await served.userState(stored)).packed).toEqual((await served.userState(embedding)).packed);
    expect(await served.storedUserState(await served.userState(embedding))).toEqual(stored);
  });

  test('is known by encoder and weights: a model of the same weights reads it, another one does not', async () => {
    const stored = await served.storedUserState(encoder.encode([1, 4]));
    const again = await base.withUserEmbeddings({ encoder, integration, seed: 3 }).model.serve({ threads: 1 });
    expect((await again.userState(stored)).packed).toEqual(stored.data);
    await again.dispose();
    await expect(other.userState(stored)).rejects.toThrow(EncoderMismatchError);
    const state = await served.userState(encoder.encode([1, 4]));
    await expect(other.generate({ prompt, user: state }).text).rejects.toThrow('another encoder or other weights made it');
    await expect(other.storedUserState(state)).rejects.toThrow(EncoderMismatchError);
  });

  test('with other numbers than it was stored with is refused', async () => {
    const stored = await served.storedUserState(encoder.encode([1, 4]));
    await expect(served.userState({ ...stored, data: stored.data.subarray(1) })).rejects.toThrow('Store it again');
    const halves = { ...stored, dtype: 'float16', data: new Uint16Array(stored.data.length) } as const;
    await expect(served.userState(halves)).rejects.toThrow(EncoderMismatchError);
    await expect(served.userState({ ...halves, data: stored.data })).rejects.toThrow(TypeError);
  });

  test('is not made of an embedding in int8, which has no scale', async () => {
    const embedding = encoder.encode([1, 4]);
    const bytes = { ...embedding, dtype: 'int8' as const, data: new Int8Array(embedding.data.length) };
    await expect(served.storedUserState(bytes)).rejects.toThrow(TypeError);
    await expect(served.generate({ prompt, user: bytes }).text).rejects.toThrow('no scale of its own');
  });
});

test('a model that reads no users has none', async () => {
  const served = await base.serve({ threads: 1 });
  expect(served.userStateEncoder).toBeUndefined();
  await expect(served.storedUserState(encoder.encode([0, 1]))).rejects.toThrow('reads no user embeddings');
  await served.dispose();
});
