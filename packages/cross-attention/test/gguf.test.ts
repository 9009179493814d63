import { existsSync } from 'node:fs';
import { mkdtemp, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { initialDecoderWeights } from '../src/decoder/decoder.js';
import { rotaryFrequencies } from '../src/decoder/rotary.js';
import { decoderTensorShapes, parseDecoderConfig, toHuggingFaceConfig } from '../src/folder/decoder-config.js';
import type { DecoderConfig } from '../src/folder/decoder-config.js';
import { readDecoderConfig, readDecoderWeights } from '../src/folder/hugging-face.js';
import type { DecoderWeights } from '../src/folder/hugging-face.js';
import { GgufError } from '../src/gguf/gguf-error.js';
import type { GgufProblem } from '../src/gguf/gguf-error.js';
import { readGguf } from '../src/gguf/gguf-model.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { float32Bytes, ggufBytes } from './gguf-writer.js';
import type { Metadata, WrittenTensor } from './gguf-writer.js';
import { smallDecoderConfig } from './small-decoder-config.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const fixtures = path.join(shared, 'fixtures/llm');
if (!existsSync(fixtures)) console.warn(`skipped: no reference models in ${fixtures}; set USER_LLM_SHARED`);

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'gguf-'));
  file = path.join(folder, 'model.gguf');
});
afterEach(async () => rm(folder, { recursive: true }));

const trained = trainByteLevelBpe(['Toy Story (1995)', 'Toy Story 2 (1999)', 'The story'], { vocabularySize: 266 });
const config = smallDecoderConfig(266);
const { vocab, merges } = trained['tokenizer.json'].model as { vocab: Record<string, number>; merges: [string, string][] };

/** In order of their ids, which an object's keys are not ('7' comes first). */
const words = Object.entries(vocab)
  .sort(([, a], [, b]) => a - b)
  .map(([word]) => word);

/** What llama.cpp's converter would write about a decoder. */
function metadataOf(of: DecoderConfig, architecture = of.family === 'mistral' ? 'llama' : of.family): Metadata {
  return {
    'general.architecture': architecture,
    [`${architecture}.block_count`]: of.layers,
    [`${architecture}.context_length`]: of.contextLength,
    [`${architecture}.embedding_length`]: of.hiddenSize,
    [`${architecture}.feed_forward_length`]: of.intermediateSize,
    [`${architecture}.attention.head_count`]: of.heads,
    [`${architecture}.attention.head_count_kv`]: of.keyValueHeads,
    [`${architecture}.attention.key_length`]: of.headSize,
    [`${architecture}.attention.layer_norm_rms_epsilon`]: of.normEpsilon,
    [`${architecture}.rope.freq_base`]: of.rotary.theta + 0.0,
    ...(of.slidingWindow === undefined ? {} : { [`${architecture}.attention.sliding_window`]: of.slidingWindow.size }),
  };
}

const tokenizerMetadata: Metadata = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'gpt-2',
  'tokenizer.ggml.tokens': words,
  'tokenizer.ggml.token_type': Int32Array.from(words, (_, id) => (id < 5 ? 3 : 1)),
  'tokenizer.ggml.merges': merges.map((merge) => merge.join(' ')),
  'tokenizer.ggml.bos_token_id': 0,
  'tokenizer.ggml.eos_token_id': 0,
  'tokenizer.ggml.padding_token_id': 1,
  'tokenizer.chat_template': trained['tokenizer_config.json'].chat_template as string,
};

const names: [RegExp, string][] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\./, 'blk.'],
  [/input_layernorm/, 'attn_norm'],
  [/post_attention_layernorm/, 'ffn_norm'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/self_attn\.([qkv])_proj/, 'attn_$1'],
  [/self_attn\.([qk])_norm/, 'attn_$1_norm'],
  [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
];
const storedName = (name: string) => names.reduce((changed, [pattern, by]) => changed.replace(pattern, by), name);

/** Tensors as llama.cpp's converter writes them: q and k rows of Llama and Mistral interleaved. */
function tensorsOf(of: DecoderConfig, weights: DecoderWeights): WrittenTensor[] {
  return Array.from(weights, ([name, { data, shape }]) => {
    let values = data as Float32Array;
    const heads = /\.q_proj/.test(name) ? of.heads : /\.k_proj/.test(name) ? of.keyValueHeads : 0;
    if (heads > 0 && (of.family === 'llama' || of.family === 'mistral')) {
      const width = values.length / shape[0];
      const half = shape[0] / heads / 2;
      values = new Float32Array(values.length);
      // reshape(heads, 2, half, width).swapaxes(1, 2)
      for (let head = 0, to = 0; head < heads; head++)
        for (let i = 0; i < half; i++)
          for (let j = 0; j < 2; j++, to += width) {
            const from = (head * 2 * half + j * half + i) * width;
            values.set((data as Float32Array).subarray(from, from + width), to);
          }
    }
    return { name: storedName(name), shape, format: 0, bytes: float32Bytes(values) };
  });
}

const weights = initialDecoderWeights(config, 3);
const good = () => ({ metadata: { ...metadataOf(config), ...tokenizerMetadata }, tensors: tensorsOf(config, weights) });

const plain = (all: DecoderWeights) =>
  new Map(Array.from(all, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]));

async function problem(bytes: Uint8Array): Promise<GgufError> {
  await writeFile(file, bytes);
  const error = await readGguf(file).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!GgufError.isInstance(error)) throw error ?? new Error('nothing was thrown');
  return error;
}

describe('a GGUF file', () => {
  test('gives config, weights, tokenizer and chat template', async () => {
    await writeFile(file, ggufBytes(good().metadata, good().tensors));
    const model = await readGguf(file);
    expect(model.config).toEqual(config);
    expect(plain(model.weights)).toEqual(weights);
    const own = TextTokenizer.fromFiles(trained);
    const text = 'Toy Story 2\n (1995)… ünï 12345';
    expect(model.tokenizer.encode(text)).toEqual(own.encode(text));
    const messages = [{ role: 'user', content: 'Next?' }] as const;
    expect(model.tokenizer.renderChat(messages)).toBe(own.renderChat(messages));
    expect(model.tokenizer.chat(messages)).toEqual(own.chat(messages));
    expect(model.tokenizer.decode(model.tokenizer.encode(text))).toBe(text);
  });

  test('loads by its path, or by the folder that holds it', async () => {
    await writeFile(file, ggufBytes(good().metadata, good().tensors));
    for (const place of [file, folder]) {
      const model = await LanguageModel.load(place);
      expect(plain(model.weights)).toEqual(weights);
      expect(model.config).toEqual(config);
    }
  });

  test('is answered for by the tokenizer beside it, where there is one', async () => {
    const { metadata, tensors } = good();
    await writeFile(file, ggufBytes({ ...metadata, 'tokenizer.ggml.model': 'bert' }, tensors));
    expect((await readGguf(file)).tokenizer.isPresent).toBe(false);
    for (const [name, json] of Object.entries(trained)) await writeFile(path.join(folder, name), JSON.stringify(json));
    expect((await readGguf(file)).tokenizer.size).toBe(266);
    // What a tokenizer_config.json would say, the file itself knows.
    await rm(path.join(folder, 'tokenizer_config.json'));
    const { tokenizer } = await readGguf(file);
    expect(tokenizer.hasChatTemplate).toBe(true);
    expect([tokenizer.bos, tokenizer.eos, tokenizer.pad]).toEqual([0, 0, 1]);
  });

  test.each([
    [{ 'tokenizer.ggml.model': 'bert' }, /model\.gguf carries a tokenizer of the kind 'bert'.*promptIds/],
    [{ 'tokenizer.ggml.eos_token_id': 2 ** 32 - 1 }, /model\.gguf carries a tokenizer without an end token.*promptIds/],
    [{ 'tokenizer.ggml.pre': 'mystery' }, /model\.gguf cuts words as 'mystery' does it.*llama-bpe.*promptIds/],
  ])('with a tokenizer that is not known (%j) takes token ids, and says why it takes no text', async (changes, why) => {
    await writeFile(file, ggufBytes({ ...good().metadata, ...changes }, good().tensors));
    const model = await readGguf(file);
    expect(plain(model.weights)).toEqual(weights);
    expect(model.tokenizer.isPresent).toBe(false);
    expect(() => model.tokenizer.encode('Toy Story')).toThrow(why);
  });

  test('is read again when weights are used, and refused when it is another file by then', async () => {
    await writeFile(file, ggufBytes(good().metadata, good().tensors));
    const model = await readGguf(file);
    await utimes(file, 1, 1);
    expect(() => model.weights.get('model.norm.weight')!.data).toThrow(/another one than when the model was loaded/);
    await rm(file);
    expect(() => model.weights.get('model.norm.weight')!.data).toThrow(GgufError);
  });

  (existsSync(fixtures) ? test : test.skip).each(['random-llama3-rope-scaled', 'random-mistral', 'random-qwen2', 'random-qwen3'])(
    '%s is the model that it was made of',
    async (name) => {
      const source = path.join(fixtures, name);
      const of = await readDecoderConfig(source);
      const all = await readDecoderWeights(source, of);
      const tensors = tensorsOf(of, all);
      // Llama 3's scaling travels as the factors of a tensor.
      const own = rotaryFrequencies(of);
      if (of.rotary.scaling !== undefined) {
        const unscaled = rotaryFrequencies({ ...of, rotary: { theta: of.rotary.theta } });
        const factors = float32Bytes(unscaled.map((frequency, i) => frequency / own[i]));
        tensors.push({ name: 'rope_freqs.weight', shape: [own.length], format: 0, bytes: factors });
      }
      const tokens = Array.from({ length: of.vocabularySize }, (_, i) => words[i] ?? `token ${i}`);
      const more = { ...tokenizerMetadata, 'tokenizer.ggml.tokens': tokens };
      await writeFile(file, ggufBytes({ ...metadataOf(of), ...more }, tensors));
      const model = await readGguf(file);
      expect(plain(model.weights)).toEqual(all);
      expect([...model.weights.keys()]).toEqual([...decoderTensorShapes(model.config).keys()]);
      rotaryFrequencies(model.config).forEach((frequency, i) => expect(frequency / own[i]).toBeCloseTo(1, 6));
      const { family, headSize, hiddenSize, intermediateSize, layers, heads, keyValueHeads, normEpsilon, tiedEmbeddings } = of;
      const { queryKeyValueBias, headNorms, contextLength } = of;
      expect(model.config).toMatchObject({ headSize, hiddenSize, intermediateSize, layers, heads, keyValueHeads, normEpsilon });
      expect(model.config).toMatchObject({ tiedEmbeddings, queryKeyValueBias, headNorms, contextLength });
      // Mistral without a window is Llama.
      expect(model.config.family).toBe(family === 'mistral' && of.slidingWindow === undefined ? 'llama' : family);
      expect(parseDecoderConfig(toHuggingFaceConfig(model.config))).toEqual({ config: model.config });
    },
  );
});

describe('what is wrong is said, from the header alone', () => {
  const change = (changes: Metadata) => ggufBytes({ ...good().metadata, ...changes }, good().tensors);
  const retensor = (name: string, changes: Partial<WrittenTensor>) =>
    ggufBytes(
      good().metadata,
      good().tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...changes } : tensor)),
    );
  const cases: [string, () => Uint8Array, GgufProblem, RegExp][] = [
    ['another kind of file', () => new TextEncoder().encode('PK zip or so'), 'not-gguf', /does not begin with GGUF/],
    ['an empty file', () => new Uint8Array(0), 'not-gguf', /does not begin with GGUF/],
    ['a version to come', () => ggufBytes({}, [], { version: 9 }), 'unsupported', /version 9/],
    ['a header that is cut', () => ggufBytes(good().metadata, []).subarray(0, 400), 'truncated', /cut short/],
    ['values that are cut', () => change({}).subarray(0, -4000), 'truncated', /lies at bytes \d+ to \d+, but the file has/],
    ['2^60 tensors', () => ggufBytes({}, [], { tensors: 2n ** 60n }), 'bad-header', /claims 1152921504606846976 tensors/],
    ['2^60 entries', () => ggufBytes({}, [], { entries: 2n ** 60n }), 'bad-header', /entries of metadata/],
    [
      'a dimension of 2^60',
      () => retensor('output_norm.weight', { shape: [2n ** 60n] }),
      'bad-tensor',
      /shape \[1152921504606846976\] in F32 would take 4611686018427387904 bytes, more than the whole file/,
    ],
    [
      'four dimensions of 2^60',
      () => retensor('output_norm.weight', { shape: [2n ** 60n, 2n ** 60n, 2n ** 60n, 2n ** 60n] }),
      'bad-tensor',
      /more than the whole file/,
    ],
    ['a dimension of 0', () => retensor('output_norm.weight', { shape: [0] }), 'bad-tensor', /holds no values/],
    ['an offset past the end', () => retensor('output_norm.weight', { offset: 2n ** 40n }), 'truncated', /lies at bytes/],
    ['an offset of 2^63', () => retensor('output_norm.weight', { offset: 2n ** 63n }), 'truncated', /lies at bytes/],
    ['a crooked offset', () => retensor('output_norm.weight', { offset: 5 }), 'bad-tensor', /not a multiple of 32/],
    ['tensors on one place', () => retensor('output_norm.weight', { offset: 0 }), 'overlapping-tensors', /overlap/],
    ['a format that is not read', () => retensor('output_norm.weight', { format: 16 }), 'unknown-quantization', /IQ2_XXS.*Q4_K/],
    [
      'a format that nobody knows',
      () => retensor('output_norm.weight', { format: 999 }),
      'unknown-quantization',
      /format \(999\)/,
    ],
    ['rows of half a block', () => retensor('output_norm.weight', { format: 8 }), 'bad-tensor', /8 values.*blocks of 32/],
    [
      'another shape',
      () => retensor('output_norm.weight', { shape: [4] }),
      'shape-mismatch',
      /has the shape \[4\].*calls for \[8\]/,
    ],
    [
      'a missing tensor',
      () => retensor('output_norm.weight', { name: 'x' }),
      'missing-tensor',
      /lacks this tensor of shape \[8\]/,
    ],
    [
      'two of one name',
      () => retensor('output_norm.weight', { name: 'token_embd.weight' }),
      'bad-tensor',
      /two tensors of this name/,
    ],
    ['no embedding', () => retensor('token_embd.weight', { name: 'x' }), 'missing-tensor', /token_embd\.weight/],
    [
      'a family that is not read',
      () => change({ 'general.architecture': 'mamba' }),
      'unsupported',
      /'mamba'.*llama, mistral, qwen2, qwen3/,
    ],
    ['a mixture of experts', () => change({ 'llama.expert_count': 8 }), 'unsupported', /mixtures of experts/],
    ['an unknown rotation', () => change({ 'llama.rope.scaling.type': 'yarn' }), 'unsupported', /'yarn'/],
    [
      'heads that the fused attention does not take',
      () => change({ 'llama.attention.key_length': 8, 'llama.rope.dimension_count': 8 }),
      'unsupported',
      /key_length: heads of 8 elements.*multiple of 16/,
    ],
    ['heads partly rotated', () => change({ 'llama.rope.dimension_count': 2 }), 'unsupported', /2 are rotated/],
    [
      'a size that is a word',
      () => change({ 'llama.block_count': 'many' }),
      'bad-header',
      /llama\.block_count: many is not a size/,
    ],
    ['a size of 2^60', () => change({ 'llama.block_count': { u64: 2n ** 60n } }), 'bad-header', /is not a size/],
    [
      'many layers',
      () => change({ 'llama.block_count': 2_000_000_000 }),
      'bad-header',
      /claims 2000000000 layers, but the file has 20 tensors/,
    ],
    ['one layer more', () => change({ 'llama.block_count': 3 }), 'bad-header', /claims 3 layers/],
    ['positions without end', () => change({ 'llama.context_length': 2 ** 31 }), 'bad-header', /claims 2147483648 positions/],
    ['a crooked alignment', () => change({ 'general.alignment': 7 }), 'bad-header', /power of two/],
    [
      'a token outside',
      () => change({ 'tokenizer.ggml.eos_token_id': 266 }),
      'bad-header',
      /token 266 is outside the vocabulary of 266/,
    ],
    ['pieces without scores', () => change({ 'tokenizer.ggml.model': 'llama' }), 'tokenizer', /scores: is not a list of numbers/],
    [
      'scores of some pieces',
      () => change({ 'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.scores': Float32Array.of(1) }),
      'tokenizer',
      /scores: holds 1 numbers for 266 tokens/,
    ],
    [
      'a tokenizer that is too large',
      () => change({ 'tokenizer.ggml.tokens': [...words, 'one', 'two'] }),
      'tokenizer-mismatch',
      /268 tokens, but the model's vocabulary holds 266/,
    ],
    [
      'a tokenizer that is too small',
      () => change({ 'tokenizer.ggml.tokens': words.slice(0, 200), 'tokenizer.ggml.merges': [] }),
      'tokenizer-mismatch',
      /200 tokens, but the model's vocabulary holds 266/,
    ],
  ];
  test.each(cases)('%s', async (_, make, kind, message) => {
    const error = await problem(make());
    expect(error.problem).toBe(kind);
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(file)).toBe(true);
  });

  test('a string and a list of 2^60, and a file of 60 GB that is a hole', async () => {
    const start = ggufBytes({}, [], { entries: 1 }).subarray(0, 24);
    const length = new Uint8Array(BigUint64Array.of(2n ** 60n).buffer);
    expect((await problem(Buffer.concat([start, length]))).problem).toBe('truncated');
    const key = [new Uint8Array(BigUint64Array.of(1n).buffer), new TextEncoder().encode('k')];
    const list = [...key, new Uint8Array(Uint32Array.of(9, 6).buffer), length];
    expect((await problem(Buffer.concat([start, ...list]))).message).toMatch(/claims 1152921504606846976 elements of k/);
    await writeFile(file, Buffer.concat([start, new Uint8Array(BigUint64Array.of(2n ** 35n).buffer)]));
    await truncate(file, 60 * 2 ** 30);
    await expect(readGguf(file)).rejects.toMatchObject({ problem: 'bad-header' });
  });

  test('no file, a folder', async () => {
    await expect(readGguf(path.join(folder, 'none.gguf'))).rejects.toMatchObject({ problem: 'unreadable' });
    await expect(readGguf(folder)).rejects.toMatchObject({ problem: 'unreadable' });
  });
});
