import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type * as ort from 'onnxruntime-node';
import { initialDecoderWeights } from '../src/decoder/decoder.js';
import { cacheNamesOf, promptPart, runPrompt, runTokens } from '../src/serving/token-run.js';
import { difference, openInference } from './inference-session.js';
import type { Inference } from './inference-session.js';
import { smallDecoderConfig } from './small-decoder-config.js';

test('a prompt that runs in parts ends as one that runs whole', async () => {
  const tokens = 2 * promptPart + 7;
  const config = smallDecoderConfig(50, { contextLength: tokens, heads: 4, keyValueHeads: 2, headSize: 16 });
  const ids = Array.from({ length: tokens }, (_, i) => (i * 13) % 50);
  const inference = await openInference({ config, weights: initialDecoderWeights(config, 3) });
  try {
    const whole = await inference.run(ids, 1, 1);

    const values = config.keyValueHeads * tokens * config.headSize;
    const buffers = new Map(cacheNamesOf(inference.session).map((name) => [name, new Float32Array(values)]));
    const prompt = { ids, past: 0, blindTokens: 0, user: undefined };
    const { logits } = await runPrompt(inference.session, config, { buffers, capacity: tokens }, prompt);

    expect(difference(logits.data as Float32Array, whole.logits)).toBeLessThan(1e-5);
    for (const [name, buffer] of buffers) expect(difference(buffer, whole.cache[name].data as Float32Array)).toBeLessThan(1e-5);
  } finally {
    await inference.dispose();
  }
});

describe('keys and values of new tokens', () => {
  const config = smallDecoderConfig(50, { contextLength: 64, heads: 4, keyValueHeads: 2, headSize: 16 });
  const { keyValueHeads, headSize } = config;
  const capacity = 24;
  let inference: Inference;
  beforeAll(async () => void (inference = await openInference({ config, weights: initialDecoderWeights(config, 3) })));
  afterAll(() => inference.dispose());

  /** As a model that was saved before it gave them alone. */
  const older = (session: ort.InferenceSession): ort.InferenceSession =>
    new Proxy(session, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (name === 'outputNames') return (value as string[]).filter((output) => output !== 'newest');
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  const emptyCache = (rows: number) => ({
    buffers: new Map(
      cacheNamesOf(inference.session).map((name) => [name, new Float32Array(rows * keyValueHeads * capacity * headSize)]),
    ),
    capacity,
  });

  /** Two texts of different lengths, whose next tokens run together; then what the cache holds of each. */
  async function twoTexts(session: ort.InferenceSession) {
    const texts = [
      [3, 14, 15, 9, 26, 5],
      [35, 8, 9],
    ];
    const both = emptyCache(2);
    for (const [row, ids] of texts.entries()) {
      const alone = emptyCache(1);
      await runTokens(session, config, alone, { ids, past: [0], user: undefined });
      for (const [name, buffer] of both.buffers) buffer.set(alone.buffers.get(name)!, row * keyValueHeads * capacity * headSize);
    }
    const past = texts.map((ids) => ids.length);
    const said: number[][] = [];
    for (const ids of [
      [7, 9],
      [32, 3],
      [8, 46],
    ]) {
      const { logits } = await runTokens(session, config, both, { ids, past, user: undefined });
      said.push(Array.from(logits.data as Float32Array));
      past.forEach((length, row) => (past[row] = length + 1));
    }
    return { said, buffers: both.buffers, past };
  }

  test('are laid behind each text, as where the whole cache is written in place', async () => {
    const [found, expected] = [await twoTexts(inference.session), await twoTexts(older(inference.session))];
    expect(found.past).toEqual([9, 6]);
    found.said.forEach((logits, i) => expect(difference(logits, expected.said[i])).toBeLessThan(1e-6));
    for (const [name, buffer] of found.buffers) {
      const places = [...buffer.keys()].filter((at) => {
        const position = Math.floor(at / headSize) % capacity;
        return position < found.past[Math.floor(at / (keyValueHeads * capacity * headSize))];
      });
      expect(places.length).toBe((9 + 6) * keyValueHeads * headSize);
      const at = (values: Float32Array) => places.map((place) => values[place]);
      expect(difference(at(buffer), at(expected.buffers.get(name)!))).toBeLessThan(1e-6);
      expect(at(buffer).every((value) => value !== 0)).toBe(true);
    }
  });

  test('are all that a token costs the garbage collector beside its logits', async () => {
    const cache = emptyCache(1);
    await runTokens(inference.session, config, cache, { ids: [3, 14, 15], past: [0], user: undefined });
    const outputs = await runTokens(inference.session, config, cache, { ids: [9], past: [3], user: undefined });
    const shapes = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, (tensor as ort.Tensor).dims]));
    expect(shapes).toEqual({
      logits: [1, 1, 50],
      log_normalizers: [1, 1],
      last_hidden_state: [1, 1, config.hiddenSize],
      newest: [1, 2 * config.layers * keyValueHeads, 1, headSize],
    });
  });
});
