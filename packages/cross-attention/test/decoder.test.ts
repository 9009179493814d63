import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { Program, crossEntropy, gradients, graph, readSafetensors } from '@user-llm/onnx-autograd';
import type { Feeds, HostTensor } from '@user-llm/onnx-autograd';
import { DecoderGraph } from '../src/decoder/decoder-graph.js';
import { createDecoder, decoderParameterCount } from '../src/decoder/decoder.js';
import type { Decoder } from '../src/decoder/decoder.js';
import { trainingAttention } from '../src/decoder/training-graph.js';
import { readDecoderConfig, readDecoderWeights } from '../src/folder/hugging-face.js';
import { difference, openInference } from './inference-session.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(fileURLToPath(new URL('.', import.meta.url)), '../../../../shared');
const fixtures = path.join(shared, 'fixtures/llm');
const hasFixtures = existsSync(fixtures);
if (!hasFixtures) console.warn(`skipped: no reference outputs in ${fixtures}; set USER_LLM_SHARED`);

const read = async (folder: string): Promise<Decoder> => {
  const config = await readDecoderConfig(folder);
  return { config, weights: await readDecoderWeights(folder, config) };
};

const ids32 = (ids: ArrayLike<number>, shape: number[]): HostTensor => ({ dtype: 'int32', data: Int32Array.from(ids), shape });

/** The training graph on whole rows: logits of all positions, the mean next-token loss, and its gradient at the token vectors. */
async function train({ config, weights }: Decoder, ids: ArrayLike<number>, rows: number) {
  const length = ids.length / rows;
  const table = weights.get('model.embed_tokens.weight')!.data as Float32Array;
  const width = config.hiddenSize;
  const vectors = new Float32Array(ids.length * width);
  for (let i = 0; i < ids.length; i++) vectors.set(table.subarray(ids[i] * width, (ids[i] + 1) * width), i * width);
  const model = graph(({ builder }) => {
    const embedded = builder.input('inputs_embeds', ['batch', 'text', width]);
    const targets = builder.input('targets', ['batch*text'], 'int32');
    const used = builder.input('used', ['batch*text']);
    const decoder = new DecoderGraph(builder, config);
    const logits = decoder.hidden(embedded, trainingAttention(builder, config)).matmul(decoder.head, { transposeB: true });
    const losses = crossEntropy(logits.reshape([-1, config.vocabularySize]), targets);
    const loss = losses.mul(used).sum().div(used.sum());
    return { logits, loss, gradient: gradients(loss, [embedded])[0] };
  });
  const targets = Array.from({ length: ids.length }, (_, i) => (i % length === length - 1 ? 0 : ids[i + 1]));
  const feeds: Feeds = {
    inputs_embeds: { dtype: 'float32', data: vectors, shape: [rows, length, width] },
    targets: ids32(targets, [ids.length]),
    used: {
      dtype: 'float32',
      data: Float32Array.from(targets, (_, i) => Number(i % length !== length - 1)),
      shape: [ids.length],
    },
  };
  const program = await Program.create(model, { weights });
  const { logits, loss, gradient } = await program.run(feeds);
  await program.dispose();
  return { logits: logits.data as Float32Array, loss: (loss.data as Float32Array)[0], gradient: gradient.data as Float32Array };
}

const families = ['random-llama3-rope-scaled', 'random-qwen2', 'random-qwen3', 'random-mistral'];

(hasFixtures ? describe : describe.skip).each(families)('%s is what transformers computes', (name) => {
  const folder = path.join(fixtures, name);
  let decoder: Decoder;
  let expected: Map<string, HostTensor>;
  let ids: number[];
  beforeAll(async () => {
    decoder = await read(folder);
    expected = (await readSafetensors(path.join(folder, 'expected.safetensors'))).tensors;
    ids = Array.from(expected.get('input_ids')!.data as BigInt64Array, Number);
  });
  const values = (key: string) => expected.get(key)!.data as Float32Array;
  const rowsAt = (logits: Float32Array, position: number) =>
    [0, 1].flatMap((row) => [...logits.subarray((row * 90 + position) * 300, (row * 90 + position + 1) * 300)]);

  test('in the training graph: logits, loss and the gradient at the token vectors', async () => {
    const { logits, loss, gradient } = await train(decoder, ids, 2);
    expect(difference(rowsAt(logits, 89), values('last_logits'))).toBeLessThan(1e-4);
    expect(difference(rowsAt(logits, 40), values('mid_logits'))).toBeLessThan(1e-4);
    expect(Math.abs(loss / values('loss')[0] - 1)).toBeLessThan(1e-4);
    expect(difference(gradient, values('grad.inputs_embeds'))).toBeLessThan(1e-4);
  });

  test('in the inference graph: logits of all positions or the last, and greedy tokens through the cache', async () => {
    const inference = await openInference(decoder);
    const all = await inference.run(ids, 2, 0);
    expect(all.dims).toEqual([2, 90, 300]);
    expect(difference(rowsAt(all.logits, 89), values('last_logits'))).toBeLessThan(1e-4);
    expect(difference(rowsAt(all.logits, 40), values('mid_logits'))).toBeLessThan(1e-4);
    const last = await inference.run(ids, 2, 1);
    expect(last.dims).toEqual([2, 1, 300]);
    expect(difference(last.logits, values('last_logits'))).toBeLessThan(1e-4);
    const { logits } = await train(decoder, ids, 2);
    expect(difference(all.logits, logits)).toBeLessThan(1e-5);
    const greedy = Array.from(expected.get('greedy_ids')!.data as BigInt64Array, Number);
    const prompt = ids.slice(0, 20);
    const found = await inference.greedy(prompt, greedy.length);
    expect(found).toEqual(greedy.slice(0, found.length));
    expect(found.length === greedy.length || decoder.config.endTokens.includes(found.at(-1)!)).toBe(true);
  });
});

(hasFixtures ? describe : describe.skip)('TinyStories-656K is what transformers computes', () => {
  interface Case {
    ids: number[];
    greedy_ids: number[];
    token_log_probs: number[];
  }
  let decoder: Decoder;
  let reference: { cases: Case[]; gradient: { loss: number } };
  let tensors: Map<string, HostTensor>;
  beforeAll(async () => {
    decoder = await read(path.join(shared, 'models/TinyStories-656K'));
    reference = JSON.parse(await readFile(path.join(fixtures, 'TinyStories-656K.json'), 'utf8'));
    tensors = (await readSafetensors(path.join(fixtures, 'TinyStories-656K.safetensors'))).tensors;
  });

  test('loss and input gradient of a sentence', async () => {
    const { loss, gradient } = await train(decoder, reference.cases[1].ids, 1);
    expect(Math.abs(loss / reference.gradient.loss - 1)).toBeLessThan(1e-4);
    expect(difference(gradient, tensors.get('grad.inputs_embeds')!.data as Float32Array)).toBeLessThan(1e-4);
  });

  test('last logits, log-probabilities of the prompt and greedy text', async () => {
    const inference = await openInference(decoder);
    for (const [i, { ids, greedy_ids, token_log_probs }] of reference.cases.entries()) {
      const { logits, normalizers } = await inference.run(ids, 1, 0);
      const v = decoder.config.vocabularySize;
      expect(difference(logits.subarray(-v), tensors.get(`${i}.last_logits`)!.data as Float32Array)).toBeLessThan(1e-4);
      const found = token_log_probs.map((_, at) => logits[at * v + ids[at + 1]] - normalizers[at]);
      expect(difference(found, token_log_probs)).toBeLessThan(1e-4);
      expect(await inference.greedy(ids, greedy_ids.length)).toEqual(greedy_ids);
    }
  });
});

describe('a decoder from scratch', () => {
  const sizes = { vocabularySize: 50, width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 48, context: 64 };
  const ids = Array.from({ length: 48 }, (_, i) => (i * i + 3) % 50);

  test('has seeded weights, each its own', () => {
    const decoder = createDecoder(sizes, 7);
    expect(createDecoder(sizes, 7)).toEqual(decoder);
    expect(createDecoder(sizes, 8).weights).not.toEqual(decoder.weights);
    expect(decoderParameterCount(decoder.config)).toBe(50 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 48 + 128) + 64);
    expect(() => createDecoder({ ...sizes, keyValueHeads: 3 }, 7)).toThrow('4 heads do not divide by 3');
    expect(() => createDecoder({ ...sizes, context: 2 ** 21 }, 7)).toThrow('context must be at most 1048576, not 2097152');
    expect(() => createDecoder({ ...sizes, width: 36, heads: 4 }, 7)).toThrow('9 elements each');
  });

  test('gives the same logits in both graphs, a sliding window included', async () => {
    const { config, weights } = createDecoder(sizes, 7);
    for (const window of [undefined, 1, 5]) {
      const slidingWindow = window === undefined ? undefined : { size: window, layers: [true, false] };
      const decoder = { config: { ...config, slidingWindow }, weights };
      const { logits } = await train(decoder, ids, 2);
      const inference = await openInference(decoder);
      expect(difference((await inference.run(ids, 2, 0)).logits, logits)).toBeLessThan(1e-5);
      // A row continued token by token from a cache of its first half.
      let { cache } = await inference.run(ids.slice(0, 12), 1, 1);
      for (let at = 12; at < 24; at++) {
        const step = await inference.run([ids[at]], 1, 1, cache);
        cache = step.cache;
        expect(difference(step.logits, logits.subarray(at * 50, (at + 1) * 50))).toBeLessThan(1e-5);
      }
    }
  });
});
