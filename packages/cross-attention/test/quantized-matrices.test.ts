import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Random } from '@user-llm/onnx-autograd';
import { decoderConfig } from '../src/decoder/decoder.js';
import type { Decoder } from '../src/decoder/decoder.js';
import { packBlocks } from '../src/decoder/packed-blocks.js';
import { ValueFile } from '../src/decoder/value-store.js';
import { decoderTensorShapes } from '../src/folder/decoder-config.js';
import { dequantize } from '../src/gguf/dequantize.js';
import { blockFormats } from '../src/gguf/block-formats.js';
import { readGgufHeader } from '../src/gguf/gguf-header.js';
import { GgufTensor } from '../src/gguf/gguf-tensors.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ggufBytes } from './gguf-writer.js';
import type { WrittenTensor } from './gguf-writer.js';
import { difference, openInference } from './inference-session.js';

const tokenizer = trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 });
const sizes = { vocabularySize: 262, width: 64, layers: 3, heads: 4, keyValueHeads: 2, intermediate: 96, context: 64 };
const config = { ...decoderConfig(sizes), endTokens: [0], beginToken: 0, paddingToken: 1 };

// Q4_0, Q4_1, Q8_0, and Q5_0, which is computed in float32.
const formatCodes = [2, 3, 8, 6];
const random = Random.of(5);
const float16 = (exponent: number) => [0, (random.next() < 0.5 ? 0x80 : 0) | (exponent << 2) | Math.floor(random.next() * 4)];

function randomBlocks(code: number, values: number): Uint8Array {
  const { bytes, values: perBlock } = blockFormats.get(code)!;
  const blocks = new Uint8Array((values / perBlock) * bytes).map(() => Math.floor(random.next() * 256));
  for (let at = 0; at < blocks.length; at += bytes) {
    blocks.set(float16(code === 8 ? 4 : 8), at);
    if (code === 3) blocks.set(float16(10), at + 2);
  }
  return blocks;
}

let folder: string;
let model: LanguageModel;
/** The same weights as plain float32 tensors. */
let plain: Decoder;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'quantized-'));
  const file = path.join(folder, 'model.gguf');
  for (const [name, json] of Object.entries(tokenizer)) await writeFile(path.join(folder, name), JSON.stringify(json));
  const parts: Record<string, string> = {
    input_layernorm: 'attn_norm',
    post_attention_layernorm: 'ffn_norm',
    o_proj: 'attn_output',
    q_proj: 'attn_q',
    k_proj: 'attn_k',
    v_proj: 'attn_v',
    gate_proj: 'ffn_gate',
    up_proj: 'ffn_up',
    down_proj: 'ffn_down',
  };
  const tensors = Array.from(decoderTensorShapes(config), ([name, shape]): WrittenTensor => {
    const stored = name
      .replace('model.embed_tokens', 'token_embd')
      .replace('model.norm', 'output_norm')
      .replace(
        /model\.layers\.(\d+)\.(?:self_attn\.|mlp\.)?(\w+)/,
        (_, layer: string, part: string) => `blk.${layer}.${parts[part]}`,
      );
    if (shape.length === 1) {
      const ones = new Float32Array(shape[0]).fill(1);
      return { name: stored, shape, format: 0, bytes: new Uint8Array(ones.buffer) };
    }
    // The embedding, which is the head too, in 4 bits with a minimum; every format among the others. Keys of the last layer are in
    // another one than queries and values, elsewhere the three are one product.
    const layer = Number(/\d+/.exec(stored)?.[0] ?? 0);
    const place = layer + Number(stored.includes('ffn')) + Number(stored === 'blk.2.attn_k.weight');
    const format = stored.startsWith('token_embd') ? 3 : formatCodes[place % formatCodes.length];
    return { name: stored, shape, format, bytes: randomBlocks(format, shape[0] * shape[1]) };
  });
  await writeFile(
    file,
    ggufBytes(
      {
        'general.architecture': 'llama',
        'llama.block_count': config.layers,
        'llama.context_length': config.contextLength,
        'llama.embedding_length': config.hiddenSize,
        'llama.feed_forward_length': config.intermediateSize,
        'llama.attention.head_count': config.heads,
        'llama.attention.head_count_kv': config.keyValueHeads,
        'llama.attention.layer_norm_rms_epsilon': config.normEpsilon,
        'tokenizer.ggml.bos_token_id': 0,
        'tokenizer.ggml.eos_token_id': 0,
        'tokenizer.ggml.padding_token_id': 1,
      },
      tensors,
    ),
  );
  model = await LanguageModel.load(file);
  expect(model.config).toEqual(config);
  const weights = new Map(Array.from(model.weights, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]));
  plain = { config: model.config, weights };
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

test('served from a temporary file, saved in one file: the same answers, and nothing is left behind', async () => {
  const before = new Set(await readdir(tmpdir()));
  const exact = await openInference(plain);
  const expected = await exact.greedy(ids, 8);
  await exact.dispose();
  const request = { promptIds: ids, maxNewTokens: 8 };
  const served = await model.serve({ accuracyLevel: 0, threads: 1 });
  expect((await readdir(tmpdir())).filter((name) => name.startsWith('user-llm-') && !before.has(name))).toEqual([]);
  expect(await served.generate(request).tokenIds).toEqual(expected);
  await served.dispose();

  const place = path.join(folder, 'saved');
  await model.save(place);
  const opened = await LanguageModel.open(place, { threads: 1 });
  const eight = await model.generate(request).tokenIds;
  expect(await opened.generate(request).tokenIds).toEqual(eight);
  await opened.dispose();
  // Trained on, it is a float32 model of the same values.
  expect((await LanguageModel.load(place)).weights).toEqual(plain.weights);
});

test('a value file is private and goes away', async () => {
  const file = new ValueFile();
  expect(existsSync(file.folder)).toBe(true);
  file.remove();
  expect(existsSync(file.folder)).toBe(false);
});

test('packed codes, scales and offsets stand for exactly the values of their blocks', async () => {
  const header = await readGgufHeader(path.join(folder, 'model.gguf'));
  for (const name of ['Q4_0', 'Q4_1', 'Q8_0'] as const) {
    const code = { Q4_0: 2, Q4_1: 3, Q8_0: 8 }[name];
    const bytes = randomBlocks(code, 8 * 64);
    const { codes, scales, offsets } = packBlocks({ format: name, bytes });
    const bits = name === 'Q8_0' ? 8 : 4;
    const codeOf = (i: number) => (bits === 8 ? codes[i] : i % 2 === 0 ? codes[i >> 1] & 15 : codes[i >> 1] >> 4);
    const values = Array.from({ length: 8 * 64 }, (_, i) =>
      Math.fround(scales[i >> 5] * (codeOf(i) - 2 ** (bits - 1)) + (offsets?.[i >> 5] ?? 0)),
    );
    expect(values.map((value) => value + 0)).toEqual(
      Array.from(dequantize(blockFormats.get(code)!, bytes), (value) => value + 0),
    );
  }
  const info = header.tensors.get('token_embd.weight')!;
  const tensor = new GgufTensor(info.shape, header, info, undefined);
  expect(Buffer.concat(Array.from(tensor.pieces(new Uint8Array(1000)), ({ bytes }) => bytes.slice()))).toEqual(
    Buffer.from(tensor.blocks().bytes),
  );
});
