import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { float32, writeSafetensors } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { decoderTensorShapes, parseDecoderConfig, toHuggingFaceConfig } from '../src/folder/decoder-config.js';
import { readDecoderConfig, readDecoderWeights, readHuggingFaceFolder } from '../src/folder/hugging-face.js';
import { ModelFolderError } from '../src/folder/model-folder-error.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { smallDecoderConfig } from './small-decoder-config.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const testWithShared = existsSync(shared) ? test : test.skip;
if (!existsSync(shared)) console.warn(`skipped: no reference models under ${shared}`);

const config = smallDecoderConfig(270);

interface TokenizerJson {
  readonly model: { readonly vocab: Record<string, number> };
  readonly added_tokens: { id: number; content: string; special: boolean }[];
}

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'model-'))));
afterEach(async () => rm(folder, { recursive: true }));

function weightsOf(shapes: Iterable<readonly [string, readonly number[]]>): Map<string, HostTensor> {
  let next = 0;
  return new Map(
    Array.from(shapes, ([name, shape]) => {
      const data = Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () =>
        Math.fround(Math.sin(next++)),
      );
      return [name, float32(data, shape)];
    }),
  );
}

async function writeModel(weights: Map<string, HostTensor>, json: object = toHuggingFaceConfig(config)): Promise<void> {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(json));
  const tokenizer = trainByteLevelBpe(['Toy Story (1995)', 'Toy Story 2 (1999)'], { vocabularySize: 270 });
  for (const [name, value] of Object.entries(tokenizer)) await writeFile(path.join(folder, name), JSON.stringify(value));
  await writeSafetensors(path.join(folder, 'model.safetensors'), weights);
}

async function problem(promise: Promise<unknown>): Promise<ModelFolderError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!ModelFolderError.isInstance(error)) throw error ?? new Error('nothing was thrown');
  return error;
}

describe('config.json', () => {
  testWithShared.each(['random-llama3-rope-scaled', 'random-mistral', 'random-qwen2', 'random-qwen3'])('%s', async (name) => {
    const source = path.join(shared, 'fixtures/llm', name);
    const read = await readDecoderConfig(source);
    const weights = await readDecoderWeights(source, read);
    expect([...weights.keys()].sort()).toEqual([...decoderTensorShapes(read).keys()].sort());
    expect(weights.has('lm_head.weight')).toBe(!read.tiedEmbeddings);
    // What is written is read back as the same model.
    expect(parseDecoderConfig(toHuggingFaceConfig(read))).toEqual({ config: read });
  });

  testWithShared('each family has what its name stands for', async () => {
    const read = (name: string) => readDecoderConfig(path.join(shared, 'fixtures/llm', name));
    expect((await read('random-llama3-rope-scaled')).rotary).toEqual({
      theta: 500_000,
      scaling: { kind: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 64 },
    });
    expect(await read('random-mistral')).toMatchObject({
      family: 'mistral',
      headSize: 16,
      queryKeyValueBias: false,
      tiedEmbeddings: false,
    });
    expect(await read('random-qwen2')).toMatchObject({
      queryKeyValueBias: true,
      attentionOutputBias: false,
      tiedEmbeddings: true,
    });
    expect(await read('random-qwen3')).toMatchObject({ headNorms: true, headSize: 32, queryKeyValueBias: false });
  });

  test('sliding windows: which layers, and none where the window is as long as the context', () => {
    const window = (extra: object) => {
      const result = parseDecoderConfig({ ...toHuggingFaceConfig(config), ...extra });
      return 'config' in result ? result.config.slidingWindow : result;
    };
    expect(window({ model_type: 'mistral', sliding_window: 16 })).toEqual({ size: 16, layers: [true, true] });
    expect(window({ model_type: 'mistral', sliding_window: 64 })).toBeUndefined();
    expect(window({ model_type: 'qwen2', sliding_window: 16 })).toBeUndefined();
    expect(window({ model_type: 'qwen2', sliding_window: 16, use_sliding_window: true, max_window_layers: 1 })).toEqual({
      size: 16,
      layers: [false, true],
    });
  });

  test('a key that is left out is what transformers fills in for the family', () => {
    // transformers 4.57: MistralConfig(), Qwen2Config(use_sliding_window=True), Qwen3Config(use_sliding_window=True)
    const of = (model_type: string, more: object = {}) => {
      const { hidden_size, intermediate_size, vocab_size } = toHuggingFaceConfig(config);
      const sizes = { hidden_size, intermediate_size, vocab_size, max_position_embeddings: 32_768 };
      const result = parseDecoderConfig({ model_type, ...sizes, num_hidden_layers: 30, num_attention_heads: 32, ...more });
      return 'config' in result ? result.config : result;
    };
    const late = Array.from({ length: 30 }, (_, layer) => layer >= 28);
    expect(of('mistral', { head_dim: 16 })).toMatchObject({
      keyValueHeads: 8,
      slidingWindow: { size: 4096, layers: late.map(() => true) },
    });
    expect(of('mistral', { head_dim: 16, sliding_window: null })).not.toHaveProperty('slidingWindow');
    expect(of('qwen2', { head_dim: 16 })).not.toHaveProperty('slidingWindow');
    const window = { size: 4096, layers: late };
    expect(of('qwen2', { head_dim: 16, use_sliding_window: true })).toMatchObject({ keyValueHeads: 32, slidingWindow: window });
    expect(of('qwen3', { use_sliding_window: true })).toMatchObject({ headSize: 128, keyValueHeads: 32, slidingWindow: window });
    expect(of('llama', { hidden_size: 512 })).toMatchObject({ headSize: 16, keyValueHeads: 32 });
    expect(parseDecoderConfig(null)).toEqual({ problems: [expect.stringMatching(/the file/)] });
  });

  test.each([
    [{ model_type: 'gpt2' }, 'unsupported', /'gpt2' is not supported.*llama, mistral, qwen2, qwen3/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 2 } }, 'unsupported', /'yarn'/],
    [{ partial_rotary_factor: 0.5 }, 'unsupported', /a part of 0\.5 is rotated \(partial_rotary_factor\)/],
    [{ rope_parameters: { partial_rotary_factor: 0.25 } }, 'unsupported', /a part of 0\.25 is rotated/],
    [{ head_dim: 12 }, 'unsupported', /heads of 12 elements \(head_dim\).*multiple of 16/],
    [{ head_dim: null }, 'unsupported', /heads of 4 elements \(hidden_size \/ num_attention_heads\)/],
    [{ head_dim: 7 }, 'bad-config', /a head of 7 elements cannot be rotated/],
    [{ hidden_size: 'wide' }, 'bad-config', /hidden_size/],
    [{ num_key_value_heads: 3 }, 'bad-config', /not a multiple of num_key_value_heads 3/],
    [{ eos_token_id: 270 }, 'bad-config', /special token 270 is outside the vocabulary of 270/],
    [{ hidden_act: 'gelu' }, 'bad-config', /hidden_act/],
    [{ rope_scaling: { rope_type: 'linear' } }, 'bad-config', /needs a factor/],
    // What a file claims is not counted up to, nor is memory taken for it.
    [{ num_hidden_layers: 1e6 }, 'bad-config', /num_hidden_layers: .*1024/],
    [{ model_type: 'mistral', sliding_window: 4, num_hidden_layers: 2 ** 40 }, 'bad-config', /num_hidden_layers/],
    [{ max_position_embeddings: 3e7 }, 'bad-config', /max_position_embeddings: .*16777216/],
    [{ max_position_embeddings: 2 ** 53 - 1 }, 'bad-config', /max_position_embeddings/],
  ])('%j is refused', async (change, kind, message) => {
    await writeModel(new Map(), { ...toHuggingFaceConfig(config), ...change });
    const error = await problem(readDecoderConfig(folder));
    expect(error.problem).toBe(kind);
    expect(error.message).toMatch(message);
  });
});

describe('a folder', () => {
  const shapes = decoderTensorShapes(config);

  test('weights, config and tokenizer together; the tied matrix under either name', async () => {
    const weights = weightsOf(shapes);
    await writeModel(weights);
    const model = await readHuggingFaceFolder(folder);
    expect(model.config).toEqual(config);
    expect(model.weights).toEqual(weights);
    expect(model.tokenizer.decode(model.tokenizer.encode('Toy Story'))).toBe('Toy Story');

    const renamed = new Map(
      [...weights].map(([name, tensor]) => [name === 'model.embed_tokens.weight' ? 'lm_head.weight' : name, tensor]),
    );
    await writeModel(renamed);
    expect((await readHuggingFaceFolder(folder)).weights).toEqual(weights);
  });

  test('shards give the same weights, and a shard outside the folder is refused', async () => {
    const weights = weightsOf(shapes);
    await writeModel(weights);
    await rm(path.join(folder, 'model.safetensors'));
    const half = [...weights].length / 2;
    const parts = [[...weights].slice(0, half), [...weights].slice(half)];
    const map: Record<string, string> = {};
    for (const [i, part] of parts.entries()) {
      const file = `model-0000${i + 1}-of-00002.safetensors`;
      await writeSafetensors(path.join(folder, file), part);
      for (const [name] of part) map[name] = file;
    }
    const index = path.join(folder, 'model.safetensors.index.json');
    await writeFile(index, JSON.stringify({ metadata: {}, weight_map: map }));
    expect((await readHuggingFaceFolder(folder)).weights).toEqual(weights);

    await writeFile(index, JSON.stringify({ weight_map: { ...map, 'model.norm.weight': '../elsewhere.safetensors' } }));
    expect((await problem(readHuggingFaceFolder(folder))).message).toMatch(/in the same folder/);
    await writeFile(index, JSON.stringify({ weight_map: { ...map, 'model.norm.weight': 'absent.safetensors' } }));
    expect((await problem(readHuggingFaceFolder(folder))).message).toMatch(/absent\.safetensors.*no such file/);
  });

  test('bfloat16 weights are read as float32', async () => {
    const weights = weightsOf(shapes);
    const halves = new Map(
      [...weights].map(([name, { shape, data }]): [string, HostTensor] => {
        const bits = new Uint32Array((data as Float32Array).slice().buffer);
        return [name, { shape, dtype: 'bfloat16', data: Uint16Array.from(bits, (word) => word >>> 16) }];
      }),
    );
    await writeModel(halves);
    const read = (await readHuggingFaceFolder(folder)).weights.get('model.norm.weight');
    expect(read?.dtype).toBe('float32');
    (weights.get('model.norm.weight')?.data as Float32Array).forEach((value, i) =>
      expect(Number(read?.data[i])).toBeCloseTo(value, 1),
    );
  });

  test('missing tensor and wrong shape name the tensor and both shapes', async () => {
    const name = 'model.layers.1.mlp.up_proj.weight';
    const without = weightsOf(shapes);
    without.delete(name);
    await writeModel(without);
    expect(await problem(readHuggingFaceFolder(folder))).toMatchObject({
      problem: 'missing-tensor',
      tensor: name,
      expected: [12, 8],
    });

    await writeModel(weightsOf([...shapes, [name, [11, 8]]]));
    const mismatch = await problem(readHuggingFaceFolder(folder));
    expect(mismatch).toMatchObject({ problem: 'shape-mismatch', tensor: name, expected: [12, 8], actual: [11, 8] });
    expect(mismatch.message).toContain('has shape [11, 8], but config.json calls for [12, 8]');
  });

  test('a tokenizer with more tokens than the model has rows', async () => {
    const small = { ...config, vocabularySize: 262 };
    await writeModel(weightsOf(decoderTensorShapes(small)), toHuggingFaceConfig(small));
    const error = await problem(readHuggingFaceFolder(folder));
    expect(error).toMatchObject({ problem: 'tokenizer-mismatch', expected: [262] });
    expect(error.message).toMatch(/the tokenizer has \d+ tokens, but the model's vocabulary holds 262/);
  });

  test("a tokenizer.json alone: the special tokens are the model's, and there is no chat template", async () => {
    const end = { ...config, beginToken: 2, endTokens: [3, 0] };
    await writeModel(weightsOf(shapes), toHuggingFaceConfig(end));
    for (const name of ['tokenizer_config.json', 'special_tokens_map.json']) await rm(path.join(folder, name));
    const { tokenizer } = await readHuggingFaceFolder(folder);
    expect([tokenizer.bos, tokenizer.eos, tokenizer.pad]).toEqual([2, 3, 1]);
    expect(tokenizer.hasChatTemplate).toBe(false);
    expect(tokenizer.decode(tokenizer.encode('Toy Story'))).toBe('Toy Story');
    // What is made of it is whole.
    expect(TextTokenizer.fromFiles(tokenizer.files).eos).toBe(3);

    await writeFile(path.join(folder, 'special_tokens_map.json'), JSON.stringify({ eos_token: { content: '<|assistant|>' } }));
    expect((await readHuggingFaceFolder(folder)).tokenizer.eos).toBe(4);
  });

  test('a tokenizer with far fewer tokens than the model has rows, or without its end token', async () => {
    const large = { ...config, vocabularySize: 600 };
    await writeModel(weightsOf(decoderTensorShapes(large)), toHuggingFaceConfig(large));
    const error = await problem(readHuggingFaceFolder(folder));
    expect(error).toMatchObject({ problem: 'tokenizer-mismatch', expected: [600] });
    expect(error.message).toMatch(/the tokenizer has 27\d tokens, but the model's vocabulary holds 600/);

    // Models round their rows up, small ones to a power of two.
    for (const vocabularySize of [512, 288]) {
      const padded = { ...config, vocabularySize };
      await writeModel(weightsOf(decoderTensorShapes(padded)), toHuggingFaceConfig(padded));
      expect((await readHuggingFaceFolder(folder)).tokenizer.isPresent).toBe(true);
    }
    const padded = { ...config, vocabularySize: 288 };
    await writeModel(weightsOf(decoderTensorShapes(padded)), toHuggingFaceConfig({ ...padded, endTokens: [287] }));
    expect((await problem(readHuggingFaceFolder(folder))).message).toMatch(/the model's end token 287 is none of them/);
  });

  test('of more positions than there can be the first are read', async () => {
    await writeModel(weightsOf(shapes), { ...toHuggingFaceConfig(config), max_position_embeddings: 2 ** 22 });
    expect((await readHuggingFaceFolder(folder)).config.contextLength).toBe(2 ** 20);
  });

  test('layers that the weights do not have', async () => {
    await writeModel(weightsOf(shapes), { ...toHuggingFaceConfig(config), num_hidden_layers: 1000 });
    expect(await problem(readHuggingFaceFolder(folder))).toMatchObject({
      problem: 'missing-tensor',
      tensor: 'model.layers.2.input_layernorm.weight',
    });
  });

  test.each([
    ['an added token', (json: TokenizerJson) => json.added_tokens.push({ id: 2 ** 31, content: '<far>', special: true })],
    ['a word', (json: TokenizerJson) => (json.model.vocab['far'] = 1e8)],
    ['a word with half an id', (json: TokenizerJson) => (json.model.vocab['far'] = 0.5)],
  ])('a tokenizer in which the id of %s is none', async (_, change) => {
    await writeModel(weightsOf(shapes));
    const file = path.join(folder, 'tokenizer.json');
    const json = JSON.parse(await readFile(file, 'utf8')) as TokenizerJson;
    change(json);
    await writeFile(file, JSON.stringify(json));
    await expect(readHuggingFaceFolder(folder)).rejects.toMatchObject({
      name: 'TokenizerError',
      file,
      message: expect.stringMatching(
        /id (2147483648|100000000) of "<?far>?" is far beyond the 27\d tokens|"far" is 0\.5, not a whole number/,
      ),
    });
  });

  test('no folder, a file, no config, no weights', async () => {
    expect(await problem(readHuggingFaceFolder(path.join(folder, 'nowhere')))).toMatchObject({ problem: 'no-folder' });
    expect((await problem(readHuggingFaceFolder(folder))).problem).toBe('no-config');
    await writeModel(new Map());
    await rm(path.join(folder, 'model.safetensors'));
    await writeFile(path.join(folder, 'model.Q4_1.gguf'), 'GGUF');
    const error = await problem(readHuggingFaceFolder(folder));
    expect(error.problem).toBe('no-weights');
    expect(error.message).toContain('found model.Q4_1.gguf');
    await writeFile(path.join(folder, 'model.Q8_0.gguf'), 'GGUF');
    expect((await problem(readHuggingFaceFolder(folder))).message).toContain("{ file: 'model.Q4_1.gguf' }");
    expect((await problem(readHuggingFaceFolder(path.join(folder, 'config.json')))).message).toMatch(/not a folder/);
  });

  testWithShared('a published model whose file holds lm_head.weight alone', async () => {
    const model = await readHuggingFaceFolder(path.join(shared, 'models/TinyStories-656K'));
    expect(model.weights.get('model.embed_tokens.weight')?.shape).toEqual([2048, 128]);
    expect(model.config).toMatchObject({
      family: 'llama',
      layers: 2,
      keyValueHeads: 4,
      headSize: 16,
      endTokens: [2],
      beginToken: 1,
    });
  });
});
