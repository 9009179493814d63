import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { GraphBuilder, Random, toOnnx } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import * as ort from 'onnxruntime-node';
import { inferenceModel } from '../src/decoder/inference-graph.js';
import { IntegerMatrices } from '../src/decoder/integer-matrices.js';
import type { IntegerOptions } from '../src/decoder/integer-matrices.js';
import type { ServedMatrices } from '../src/decoder/served-matrices.js';
import { ValuesInside } from '../src/decoder/value-store.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { LanguageModel } from '../src/language-model.js';
import { integerComputation } from '../src/serve-model.js';
import { multipliesBytesAtOnce } from '../src/serving/byte-products.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { difference } from './inference-session.js';
import { ToyEncoder } from './toy-encoder.js';

// Seconds on a busy machine.
jest.setTimeout(60_000);

const random = Random.of('int8');
const matrix = (rows: number, width: number): HostTensor => ({
  dtype: 'float32',
  shape: [rows, width],
  data: Float32Array.from({ length: rows * width }, () => random.next() - 0.5),
});
const none: ServedMatrices = { products: () => undefined, rows: () => undefined, whole: () => undefined };
const names = ['model.layers.0.self_attn.q_proj.weight', 'model.layers.0.self_attn.k_proj.weight'];
const width = 64;
const weights = new Map(names.map((name, i) => [name, matrix(24 + 8 * i, width)]));
/** Two channels far above the others, as language models have them. */
const sizes = Float32Array.from({ length: width }, (_, k) => (k === 5 || k === 40 ? 60 : 1));

/** That of this processor: without products that add up in 32 bits, codes of 8 bits would overflow. */
const weightRange = multipliesBytesAtOnce() ? 127 : 63;
/** How far off a product may be, given what is for weights of 8 bits; those of 7 bits are twice as coarse. */
const bound = (of8Bits: number): number => (of8Bits * 127) / weightRange;

/** x [rows, 64] through both matrices: [rows, 24] and [rows, 32]. */
async function products(x: Float32Array, options: Partial<IntegerOptions> = {}): Promise<Float32Array[]> {
  const builder = GraphBuilder.create();
  const store = new ValuesInside();
  const peaks = new Map([[names[0], options.peaks?.get(names[0]) ?? sizes]]);
  const matrices = new IntegerMatrices(builder, weights, none, store, { weightRange, ...options, peaks });
  const [queries, keys] = matrices.products(names, builder.input('x', ['rows', width]))!;
  expect(matrices.whole([queries, keys])!.shape).toEqual(['rows', 56]);
  expect(matrices.whole([keys, queries])).toBeUndefined();
  const session = await ort.InferenceSession.create(
    toOnnx({ outputs: { queries, keys }, ...store.onnx(builder, weights) }).bytes,
  );
  const outputs = await session.run({ x: new ort.Tensor('float32', x, [x.length / width, width]) });
  await session.release();
  return [outputs.queries.data as Float32Array, outputs.keys.data as Float32Array];
}

function exact(x: Float32Array): Float32Array[] {
  return names.map((name) => {
    const { data, shape } = weights.get(name)!;
    const [columns] = shape;
    return Float32Array.from({ length: (x.length / width) * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let k = 0; k < width; k++) sum += x[row * width + k] * (data as Float32Array)[column * width + k];
      return sum;
    });
  });
}

describe('products in integers', () => {
  const rows = 9;
  const x = Float32Array.from({ length: rows * width }, (_, i) => (random.next() - 0.5) * sizes[i % width]);

  test('are those of the matrices, to about a hundredth where two channels are sixty times the others', async () => {
    const expected = exact(x);
    const found = await products(x);
    const wider = await products(x, { weightRange: 63 });
    found.forEach((values, i) => {
      expect(difference(values, expected[i])).toBeLessThan(bound(0.01));
      expect(difference(wider[i], expected[i])).toBeLessThan(0.02);
    });
  });

  test('are better for knowing which channels are large', async () => {
    const error = async (peaks: Float32Array) => {
      const found = await products(x, { peaks: new Map([[names[0], peaks]]) });
      const expected = exact(x);
      return found
        .flatMap((values, i) => Array.from(values, (value, j) => (value - expected[i][j]) ** 2))
        .reduce((a, b) => a + b);
    };
    expect(await error(sizes)).toBeLessThan(0.3 * (await error(new Float32Array(width).fill(1))));
  });

  test('of a row do not depend on the rows beside it, and those of zeros are zeros', async () => {
    const together = Float32Array.from(x);
    together.fill(0, 3 * width, 4 * width);
    const [all] = await products(together);
    for (let row = 0; row < rows; row++) {
      const [alone] = await products(together.slice(row * width, (row + 1) * width));
      expect(all.slice(row * 24, (row + 1) * 24)).toEqual(alone);
    }
    expect(all.slice(3 * 24, 4 * 24)).toEqual(new Float32Array(24));
  });

  test('allow for channels that the text did not show', async () => {
    const peaks = Float32Array.from(sizes);
    peaks[7] = 0;
    peaks[8] = 1e-12;
    const found = await products(x, { peaks: new Map([[names[0], peaks]]) });
    found.forEach((values, i) => expect(difference(values, exact(x)[i])).toBeLessThan(bound(0.02)));
  });
});

describe('a model that is served in integers', () => {
  const files = trainByteLevelBpe(['Heat (1995)', 'Toy Story (1995)', 'Alien (1979)'], { vocabularySize: 290 });
  const shape = { width: 64, layers: 3, heads: 4, keyValueHeads: 2, context: 512 };
  const model = LanguageModel.create(shape, files, 1);
  const titles = ['Heat (1995)', 'Toy Story (1995)', 'Alien (1979)', 'Aliens (1986)', 'Heat'];
  let plain: ServedModel;
  let integers: ServedModel;
  beforeAll(async () => {
    plain = await model.serve({ threads: 1 });
    integers = await model.serve({ threads: 1, int8: true });
  });
  afterAll(async () => {
    await plain.dispose();
    await integers.dispose();
  });

  async function logits(computation: Parameters<typeof inferenceModel>[3], ids: readonly number[]): Promise<Float32Array> {
    const { config, weights: all } = model;
    const session = await ort.InferenceSession.create(inferenceModel(config, all, undefined, computation));
    const feeds: Record<string, ort.Tensor> = {
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(0n), []),
    };
    for (const name of session.inputNames)
      if (name.startsWith('past_')) feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, 2, 0, 16]);
    const outputs = await session.run(feeds);
    await session.release();
    return outputs.logits.data as Float32Array;
  }

  test('has nearly the logits of the model, and not the same', async () => {
    const ids = model.tokenizer.encode('Toy Story (1995), Alien (1979)');
    const expected = await logits({}, ids);
    const found = await logits(await integerComputation(model, { int8: true }), ids);
    expect(difference(found, expected)).toBeLessThan(bound(0.03));
    expect(difference(found, expected)).toBeGreaterThan(1e-5);
    const other = await logits(await integerComputation(model, { int8: { text: model.tokenizer.encode('Heat (1995)') } }), ids);
    expect(difference(other, expected)).toBeLessThan(bound(0.05));
    expect(other).not.toEqual(found);
  });

  test('answers alone as in company, token for token', async () => {
    const scheduler = integers.scheduler({ rows: 3 });
    const prompts = ['Heat', 'Toy Story (1995), Toy', 'A', 'Alien (1979) Heat (1995) Toy Story (1995)'];
    const together = prompts.map((prompt) => scheduler.generate({ prompt, maxNewTokens: 12 }).tokenIds);
    for (const [i, prompt] of prompts.entries())
      expect(await together[i]).toEqual(await integers.generate({ prompt, maxNewTokens: 12 }).tokenIds);
    await scheduler.dispose();
  });

  test('reads users as the model does: not at all while the gates are closed', async () => {
    const encoder = ToyEncoder.create(2);
    const { model: reading } = model.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 2 }) });
    const served = await reading.serve({ threads: 1, int8: true });
    const user = encoder.encode([1, 4]);
    const answer = served.generate({ prompt: 'Toy Story', user, maxNewTokens: 12 });
    expect(await answer.tokenIds).toEqual(await integers.generate({ prompt: 'Toy Story', maxNewTokens: 12 }).tokenIds);
    await served.dispose();
  });

  /** The logarithm of each title's probability. */
  async function scoresOf(served: Pick<ServedModel, 'rank'>, request: object = {}): Promise<number[]> {
    const { items, scores } = await served.rank({ prompt: 'The next film is ', ...request, trie: model.trie(titles), top: 5 });
    return titles.map((_, item) => scores[items.indexOf(item)]);
  }
  const furthest = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((score, i) => Math.abs(score - b[i])));

  test('ranks titles nearly as the model does, ten times nearer than another model', async () => {
    await using other = await LanguageModel.create(shape, files, 2).serve({ threads: 1 });
    const [expected, found, others] = [await scoresOf(plain), await scoresOf(integers), await scoresOf(other)];
    expect(furthest(found, expected)).toBeGreaterThan(0);
    expect(10 * furthest(found, expected)).toBeLessThan(furthest(others, expected));
  });

  describe('from a folder', () => {
    const encoder = ToyEncoder.create(2);
    const integration = gatedCrossAttention({ every: 1, gate: 0.9 });
    const { model: reading } = model.withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens: 2 } });
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(path.join(tmpdir(), 'int8-'));
      await reading.save(path.join(folder, 'floats'));
      await reading.save(path.join(folder, 'blocks'), { quantize: 4, trainable: false });
    });
    afterAll(() => rm(folder, { recursive: true }));
    const request = () => ({ prompt: 'Toy Story (1995), Heat', user: encoder.encode([1, 4]), maxNewTokens: 16 });

    test('computes as the model that was saved', async () => {
      await using saved = await LanguageModel.open(path.join(folder, 'floats'), { threads: 1, int8: true });
      await using served = await reading.serve({ threads: 1, int8: true });
      const [found, expected] = [saved.generate(request()), served.generate(request())];
      expect(await found.tokenIds).toEqual(await expected.tokenIds);
    });

    test('computes with the values of its blocks, in workers too, and ranks', async () => {
      const place = path.join(folder, 'blocks');
      await using blocks = await LanguageModel.open(place, { threads: 1 });
      await using saved = await LanguageModel.open(place, { threads: 1, int8: true });
      await using workers = await LanguageModel.openInWorkers(place, { threads: 1, int8: true });
      const { tokenIds } = saved.generate(request());
      expect(await workers.generate(request()).tokenIds).toEqual(await tokenIds);
      const [expected, found] = [await scoresOf(blocks, request()), await scoresOf(saved, request())];
      expect(await scoresOf(workers, request())).toEqual(found);
      const unread = await scoresOf(blocks, { ...request(), user: undefined });
      expect(5 * furthest(found, expected)).toBeLessThan(furthest(unread, expected));
      expect(furthest(found, expected)).toBeGreaterThan(0);
      const prefix = await saved.prefix({ prompt: 'Toy Story (1995), Heat' });
      expect(await saved.generate({ ...request(), prefix }).tokenIds).toEqual(await tokenIds);
      await expect(async () => blocks.generate({ ...request(), prefix }).tokenIds).rejects.toThrow('another model');
    });
  });

  test.each<[string, { text: string | number[] }, string]>([
    ['no words', { text: '' }, 'is empty; give a few sentences'],
    ['no ids', { text: [] }, 'is empty; give a few sentences'],
    ['an id past the vocabulary', { text: [3, 290] }, '290 is no token id of this model; its ids are 0 to 264'],
    ['half an id', { text: [1.5] }, '1.5 is no token id'],
  ])('refuses %s to be read first', async (_, int8, message) => {
    await expect(model.serve({ int8 })).rejects.toThrow(message);
  });
});
