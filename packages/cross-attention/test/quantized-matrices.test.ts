import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Random } from '@user-llm/onnx-autograd';
import { decoderConfig } from '../src/decoder/decoder.js';
import type { Decoder } from '../src/decoder/decoder.js';
import { packBlocks, packedForm } from '../src/decoder/pack-blocks.js';
import type { Precision } from '../src/decoder/packable-matrix.js';
import { PackingMemory, valuesOfBlocks, widenCodes } from '../src/decoder/packed-form.js';
import type { PackedBlocks } from '../src/decoder/packed-form.js';
import { quantizeBlocks } from '../src/decoder/quantize.js';
import { inferenceModel } from '../src/decoder/inference-graph.js';
import { ValueFile, fitInside } from '../src/decoder/value-store.js';
import { decoderTensorShapes } from '../src/folder/decoder-config.js';
import type { DecoderConfig } from '../src/folder/decoder-config.js';
import { dequantize } from '../src/gguf/dequantize.js';
import { blockFormats } from '../src/gguf/block-formats.js';
import { readGgufHeader } from '../src/gguf/gguf-header.js';
import { GgufTensor } from '../src/gguf/gguf-tensors.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { difference, openInference } from './inference-session.js';
import { smallGguf } from './small-gguf.js';
import type { StoredMatrixOf } from './small-gguf.js';

// Seconds on a busy machine.
jest.setTimeout(60_000);

const tokenizer = trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 });
const sizes = { vocabularySize: 262, width: 64, layers: 3, heads: 4, keyValueHeads: 2, intermediate: 96, context: 64 };
const numbers = { F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14, BF16: 30 } as const;
type Format = keyof typeof numbers;

const random = Random.of(5);
const float16 = (exponent: number) => [
  Math.floor(random.next() * 4),
  (random.next() < 0.5 ? 0x80 : 0) | (exponent << 2) | Math.floor(random.next() * 4),
];
/** Where a block's scale and minimum lie, and their exponents. */
const halves: Record<Format, readonly (readonly [at: number, exponent: number])[]> = {
  F16: [[0, 10]],
  Q4_0: [[0, 8]],
  Q4_1: [[0, 8], [2, 10]], // prettier-ignore
  Q5_0: [[0, 7]],
  Q5_1: [[0, 7], [2, 10]], // prettier-ignore
  Q8_0: [[0, 4]],
  Q4_K: [[0, 3], [2, 3]], // prettier-ignore
  Q5_K: [[0, 2], [2, 2]], // prettier-ignore
  Q6_K: [[208, 1]],
  BF16: [],
};

function randomBlocks(format: Format, values: number): Uint8Array {
  const { bytes, values: perBlock } = blockFormats.get(numbers[format])!;
  const blocks = new Uint8Array((values / perBlock) * bytes).map(() => Math.floor(random.next() * 256));
  for (let at = 0; at < blocks.length; at += bytes)
    for (const [place, exponent] of halves[format]) blocks.set(float16(exponent), at + place);
  return blocks;
}

let folder: string;

/** A model from a GGUF file with matrices of the named formats, and the same weights as plain float32 tensors. */
async function modelOf(file: string, config: DecoderConfig, formatOf: (stored: string) => Format) {
  const matrix: StoredMatrixOf = (stored, values) => {
    const format = formatOf(stored);
    return { format: numbers[format], bytes: randomBlocks(format, values) };
  };
  const tokens = { 'tokenizer.ggml.bos_token_id': 0, 'tokenizer.ggml.padding_token_id': 1 };
  await writeFile(path.join(folder, file), smallGguf(config, matrix, tokens));
  const model = await LanguageModel.load(path.join(folder, file));
  expect(model.config).toEqual(config);
  const weights = new Map(Array.from(model.weights, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]));
  return { model, plain: { config: model.config, weights } };
}

let model: LanguageModel;
let plain: Decoder;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'quantized-'));
  for (const [name, json] of Object.entries(tokenizer)) await writeFile(path.join(folder, name), JSON.stringify(json));
  const config = { ...decoderConfig(sizes), endTokens: [0], beginToken: 0, paddingToken: 1 };
  // The embedding, which is the head too, in 4 bits with a minimum; every format among the others. Keys of the last layer are in
  // another one than queries and values, elsewhere the three are one product.
  const formats = ['Q4_0', 'Q4_1', 'Q8_0', 'Q5_0', 'Q5_1'] as const;
  ({ model, plain } = await modelOf('model.gguf', config, (stored) => {
    const layer = Number(/\d+/.exec(stored)?.[0] ?? 0);
    const place = 2 * layer + Number(stored.includes('ffn')) + Number(stored === 'blk.2.attn_k.weight');
    return stored.startsWith('token_embd') ? 'Q4_1' : formats[place % formats.length];
  }));
});
afterAll(async () => {
  await model.dispose();
  await rm(folder, { recursive: true });
});

const ids = Array.from({ length: 24 }, (_, i) => (i * i + 3) % 262);

test('blocks in MatMulNBits and rows gathered quantised: the logits of float32 weights', async () => {
  const exact = await openInference(plain);
  const { logits } = await exact.run(ids, 1, 0);
  expect(logits.every(Number.isFinite)).toBe(true);
  const quantized = await openInference(model, 0);
  expect(difference((await quantized.run(ids, 1, 0)).logits, logits)).toBeLessThan(1e-5);
  const rounded = await openInference(model, 4);
  const difference4 = difference((await rounded.run(ids, 1, 0)).logits, logits);
  expect(difference4).toBeLessThan(0.1);
  expect(difference4).toBeGreaterThan(1e-5);
  for (const inference of [exact, quantized, rounded]) await inference.dispose();
});

test('4-bit codes two in a byte or one are the same model', async () => {
  // Rounded activations are summed in another order.
  for (const [accuracyLevel, most] of [
    [0, 1e-5],
    [4, 2e-4],
  ] as const) {
    const [nibbles, bytes] = [
      await openInference(model, accuracyLevel),
      await openInference(model, accuracyLevel, { codes: 'bytes' }),
    ];
    expect(difference((await bytes.run(ids, 1, 0)).logits, (await nibbles.run(ids, 1, 0)).logits)).toBeLessThan(most);
    for (const inference of [nibbles, bytes]) await inference.dispose();
  }
  const memory = new PackingMemory();
  for (const name of ['Q4_0', 'Q4_1', 'Q4_K'] as const) {
    const packed = packBlocks({ format: name, bytes: randomBlocks(name, 8 * 256) });
    expect(valuesOf(widenCodes(packed, memory), 8, 32)).toEqual(valuesOf(packed, 4, 32));
  }
});

test('a token has the same logits alone and among others', async () => {
  const wide = { ...sizes, width: 256, intermediate: 512, layers: 6 };
  const config = { ...decoderConfig(wide), endTokens: [0], beginToken: 0, paddingToken: 1 };
  const { model: four } = await modelOf('company.gguf', config, () => 'Q4_1');
  const inference = await openInference(four, 4);
  const among = (await inference.run(ids, ids.length, 1)).logits;
  const [, , vocabulary] = (await inference.run(ids, 1, 0)).dims;
  for (const [i, id] of ids.entries()) {
    const { logits, dims } = await inference.run([id], 1, 1);
    expect(dims).toEqual([1, 1, vocabulary]);
    // The head's own product is in float32 to the last bits; a number that is rounded to another byte is a thousand times as much.
    expect(difference(logits, among.subarray(i * vocabulary, (i + 1) * vocabulary))).toBeLessThan(1e-6);
  }
  await inference.dispose();
  await four.dispose();
});

test('served from a temporary file, saved in one file: the same answers, and nothing is left behind', async () => {
  // Others may serve models on the same machine: their files have their processes' numbers in their names.
  const own = async () => (await readdir(tmpdir())).filter((name) => name.startsWith(`user-llm-${process.pid}-`));
  const before = await own();
  const exact = await openInference(plain);
  const expected = await exact.greedy(ids, 8);
  await exact.dispose();
  const request = { promptIds: ids, maxNewTokens: 8 };
  const served = await model.serve({ accuracyLevel: 0, threads: 1 });
  expect(await own()).toEqual(before);
  expect(await served.generate(request).tokenIds).toEqual(expected);
  await served.dispose();

  const place = path.join(folder, 'saved');
  await model.save(place);
  const opened = await LanguageModel.open(place, { threads: 1 });
  const eight = await model.generate(request).tokenIds;
  expect(await opened.generate(request).tokenIds).toEqual(eight);
  await opened.dispose();
  // Trained on, it is a float32 model of the same values.
  const { weights } = await LanguageModel.load(place);
  for (const [name, { data }] of plain.weights) expect(weights.get(name)!.data).toEqual(data);
});

test('a value file is private and goes away', async () => {
  const file = new ValueFile();
  expect(existsSync(file.folder)).toBe(true);
  file.remove();
  expect(existsSync(file.folder)).toBe(false);
});

test('weights that would make a graph too large lie in the file too, and are the same model', async () => {
  const { config, weights } = plain;
  const inside = inferenceModel(config, weights);
  const write = (file: ValueFile) => inferenceModel(config, weights, undefined, {}, file);
  const ofFile = (most?: number) => ValueFile.during(async (file) => write(file), most);
  expect(await ofFile()).toEqual(inside);
  const [largest] = decoderTensorShapes(config).values();
  expect((await ofFile(1000)).length).toBeLessThan(inside.length - 4 * largest[0] * largest[1]);

  const exact = await openInference(plain);
  const apart = await ValueFile.during((file) => openInference(plain, undefined, {}, file), 1000);
  expect((await apart.run(ids, 1, 0)).logits).toEqual((await exact.run(ids, 1, 0)).logits);
  for (const inference of [exact, apart]) await inference.dispose();
  const of = (elements: number) => [{ shape: [elements / 2] }, { shape: [elements / 2] }];
  expect([fitInside(of(2 ** 28)), fitInside(of(2 ** 28 + 2))]).toEqual([true, false]);
});

test('blocks of 256, whose groups have scales of their own, are exact too', async () => {
  const config = { ...decoderConfig({ ...sizes, width: 256, layers: 1, intermediate: 256 }), endTokens: [0], beginToken: 0 };
  const formats: Record<string, Format> = { attn_v: 'Q6_K', attn_output: 'Q5_K', ffn_down: 'Q6_K', token_embd: 'Q6_K' };
  const { model, plain } = await modelOf(
    'large-blocks.gguf',
    { ...config, paddingToken: 1 },
    (stored) => formats[stored.split('.').at(-2)!] ?? 'Q4_K',
  );
  const [exact, packed] = [await openInference(plain), await openInference(model, 0)];
  const { logits } = await exact.run(ids, 1, 0);
  expect(logits.every(Number.isFinite)).toBe(true);
  expect(difference((await packed.run(ids, 1, 0)).logits, logits)).toBeLessThan(1e-5);
  for (const inference of [exact, packed]) await inference.dispose();
});

test('half floats of a GGUF file are rounded to 8 bits unless that is forbidden, plain weights where it is asked for', async () => {
  const config = { ...decoderConfig({ ...sizes, layers: 2 }), endTokens: [0], beginToken: 0, paddingToken: 1 };
  const half = await modelOf('half.gguf', config, () => 'F16');
  const exact = await openInference(half.plain);
  const { logits } = await exact.run(ids, 1, 0);
  const differenceOf = async (decoder: Decoder, precision: Precision) => {
    const inference = await openInference(decoder, 0, precision);
    const found = difference((await inference.run(ids, 1, 0)).logits, logits);
    await inference.dispose();
    return found;
  };
  const eight = await differenceOf(half.model, {});
  expect(eight).toBeGreaterThan(1e-4);
  expect(eight).toBeLessThan(0.02);
  expect(await differenceOf(half.model, { quantize: false })).toBeLessThan(1e-6);
  expect(await differenceOf(half.plain, {})).toBeLessThan(1e-6);
  expect(await differenceOf(half.plain, { quantize: 8 })).toBeCloseTo(eight, 4);
  const four = await differenceOf(half.plain, { quantize: 4 });
  expect(four).toBeGreaterThan(eight);
  expect(four).toBeLessThan(0.3);
  await exact.dispose();

  const served = await half.model.serve({ quantize: 4, accuracyLevel: 0, threads: 1 });
  expect(await served.generate({ promptIds: ids, maxNewTokens: 4 }).tokenIds).toHaveLength(4);
  await served.dispose();
});

test('packed codes, scales and offsets stand for the values of their blocks', async () => {
  const header = await readGgufHeader(path.join(folder, 'model.gguf'));
  for (const name of ['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'] as const) {
    const bytes = randomBlocks(name, 8 * 256);
    const { bits, blockSize, hasOffsets } = packedForm(name, [8, 256])!;
    const found = valuesOf(packBlocks({ format: name, bytes }), bits, blockSize);
    const expected = dequantize(blockFormats.get(numbers[name])!, bytes);
    // With a minimum, its sum with the centre of the codes is rounded to float32.
    if (hasOffsets) expect(difference(found, expected)).toBeLessThan(3e-7);
    else expect(found.map((value) => value + 0)).toEqual(expected.map((value) => value + 0));
  }
  const info = header.tensors.get('token_embd.weight')!;
  const tensor = new GgufTensor(info.shape, header, info, undefined);
  expect(Buffer.concat(Array.from(tensor.pieces(new Uint8Array(1000)), ({ bytes }) => bytes.slice()))).toEqual(
    Buffer.from(tensor.blocks().bytes),
  );
});

/** What packed blocks stand for. */
const valuesOf = (blocks: PackedBlocks, bits: 4 | 8, blockSize: 16 | 32): Float32Array =>
  valuesOfBlocks(blocks, { bits, blockSize }, new PackingMemory());

describe('rounding floats', () => {
  const values = Float32Array.from({ length: 40 * 32 }, () => random.normal());
  const squares = (found: Float32Array) => found.reduce((sum, value, i) => sum + (value - values[i]) ** 2, 0) / values.length;

  test('to 8 bits: half a step of the largest value in the block at most', () => {
    const found = valuesOf(quantizeBlocks(values, 8), 8, 32);
    for (let block = 0; block < 40; block++) {
      const range = (all: Float32Array) => Array.from(all.subarray(32 * block, 32 * block + 32));
      const largest = Math.max(...range(values).map(Math.abs));
      expect(Math.max(...range(found).map((value, i) => Math.abs(value - values[32 * block + i])))).toBeLessThan(largest / 253.9);
    }
  });

  test('to 4 bits: no worse than sixteen even steps from the least value to the greatest', () => {
    const even = values.map((value, i) => {
      const block = values.subarray(i - (i % 32), i - (i % 32) + 32);
      const least = Math.min(...block);
      const step = (Math.max(...block) - least) / 15;
      return least + step * Math.round((value - least) / step);
    });
    expect(squares(valuesOf(quantizeBlocks(values, 4), 4, 32))).toBeLessThan(0.95 * squares(even));
  });

  test('values that 4 bits can say are kept, equal ones and zeros too', () => {
    const steps = Float32Array.from({ length: 96 }, (_, i) => (i < 32 ? (i % 16) / 4 - 2 : i < 64 ? 0.75 : 0));
    expect(valuesOf(quantizeBlocks(steps, 4), 4, 32)).toEqual(steps);
    expect(valuesOf(quantizeBlocks(new Float32Array(32), 8), 8, 32)).toEqual(new Float32Array(32));
  });
});
