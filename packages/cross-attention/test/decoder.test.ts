import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { readSafetensors } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { createDecoder, decoderParameterCount } from '../src/decoder/decoder.js';
import type { Decoder } from '../src/decoder/decoder.js';
import { decoderTensorShapes, parseDecoderConfig } from '../src/folder/decoder-config.js';
import { readDecoderConfig, readDecoderWeights } from '../src/folder/hugging-face.js';
import { difference, norm, openInference } from './inference-session.js';
import { hiddenStates, trainingStep } from './training-step.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(fileURLToPath(new URL('.', import.meta.url)), '../../../../shared');
const fixtures = path.join(shared, 'fixtures/llm');
const hasFixtures = existsSync(fixtures);
if (!hasFixtures) console.warn(`skipped: no reference outputs in ${fixtures}; set USER_LLM_SHARED`);

const read = async (folder: string): Promise<Decoder> => {
  const config = await readDecoderConfig(folder);
  return { config, weights: await readDecoderWeights(folder, config) };
};

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
    const { logits, loss, gradient } = await trainingStep(decoder, ids, 2);
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
    const { logits } = await trainingStep(decoder, ids, 2);
    expect(difference(all.logits, logits)).toBeLessThan(1e-5);
    const greedy = Array.from(expected.get('greedy_ids')!.data as BigInt64Array, Number);
    const prompt = ids.slice(0, 20);
    const found = await inference.greedy(prompt, greedy.length);
    expect(found).toEqual(greedy.slice(0, found.length));
    expect(found.length === greedy.length || decoder.config.endTokens.includes(found.at(-1)!)).toBe(true);
  });
});

/** What transformers makes of the same weights under another config; `madeWith` says how. */
const windows = JSON.parse(await readFile(path.join(import.meta.dirname, 'sliding-windows.json'), 'utf8')) as {
  readonly models: Readonly<
    Record<string, { config: object; loss: number; logits: readonly number[]; gradient: readonly number[] }>
  >;
};

(hasFixtures ? test : test.skip).each(Object.entries(windows.models))(
  '%s with a sliding window is what transformers computes, in both graphs',
  async (name, expected) => {
    const folder = path.join(fixtures, name);
    const { weights } = await read(folder);
    const { layer_types: _, ...json } = JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8'));
    const parsed = parseDecoderConfig({ ...json, ...expected.config });
    if (!('config' in parsed)) throw new Error(JSON.stringify(parsed));
    const decoder = { config: parsed.config, weights };
    const { tensors } = await readSafetensors(path.join(folder, 'expected.safetensors'));
    const ids = Array.from(tensors.get('input_ids')!.data as BigInt64Array, Number);
    const { logits, loss, gradient } = await trainingStep(decoder, ids, 2);
    expect(difference(logits.subarray(89 * 300, 90 * 300), expected.logits)).toBeLessThan(1e-4);
    expect(Math.abs(loss / expected.loss - 1)).toBeLessThan(1e-4);
    expect(difference(gradient.subarray(20 * 64, 21 * 64), expected.gradient)).toBeLessThan(1e-4);
    // The last ten tokens through the cache.
    const inference = await openInference(decoder);
    const { cache } = await inference.run(ids.slice(0, 80), 1, 1);
    const last = await inference.run(ids.slice(80, 90), 1, 1, cache);
    expect(difference(last.logits, expected.logits)).toBeLessThan(1e-4);
    await inference.dispose();
  },
);

(hasFixtures ? describe : describe.skip)('TinyStories-656K is what transformers computes', () => {
  interface Case {
    ids: number[];
    greedy_ids: number[];
    token_log_probs: number[];
  }
  let decoder: Decoder;
  let reference: { cases: Case[]; gradient: { loss: number; weight_gradient_norms: Record<string, number> } };
  let tensors: Map<string, HostTensor>;
  beforeAll(async () => {
    decoder = await read(path.join(shared, 'models/TinyStories-656K'));
    reference = JSON.parse(await readFile(path.join(fixtures, 'TinyStories-656K.json'), 'utf8'));
    tensors = (await readSafetensors(path.join(fixtures, 'TinyStories-656K.safetensors'))).tensors;
  });

  const values = (key: string) => tensors.get(key)!.data as Float32Array;

  test('hidden states after every layer', async () => {
    const states = await hiddenStates(decoder, reference.cases[0].ids);
    expect(states).toHaveLength(3);
    for (const [layer, state] of states.entries()) expect(difference(state, values(`0.hidden.${layer}`))).toBeLessThan(1e-4);
  });

  test('loss of a sentence, its gradients at the token vectors and at every weight', async () => {
    // The matrix of the embeddings is the head's, too; here its gradient is that of the head alone.
    const names = [...decoderTensorShapes(decoder.config).keys()].filter((name) => name !== 'model.embed_tokens.weight');
    const { loss, gradient, weightGradient } = await trainingStep(decoder, reference.cases[1].ids, 1, names);
    expect(Math.abs(loss / reference.gradient.loss - 1)).toBeLessThan(1e-4);
    expect(difference(gradient, values('grad.inputs_embeds'))).toBeLessThan(1e-4);
    for (const name of names) {
      expect(Math.abs(norm(weightGradient(name)) / reference.gradient.weight_gradient_norms[name] - 1)).toBeLessThan(1e-4);
    }
    // Of matrices the first rows are given.
    for (const name of ['layers.0.self_attn.q_proj', 'layers.1.mlp.down_proj', 'norm'].map((part) => `model.${part}.weight`)) {
      const expected = values(`grad.${name}`);
      expect(difference(weightGradient(name).subarray(0, expected.length), expected)).toBeLessThan(1e-4);
    }
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
      const { logits } = await trainingStep(decoder, ids, 2);
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
