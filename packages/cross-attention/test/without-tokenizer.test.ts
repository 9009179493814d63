import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { writeSafetensors } from '@user-llm/onnx-autograd';
import { createDecoder } from '../src/decoder/decoder.js';
import { toHuggingFaceConfig } from '../src/folder/decoder-config.js';
import { LanguageModel } from '../src/language-model.js';
import { TextTokenizer, TokenizerError } from '../src/text/text-tokenizer.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { float32Bytes, ggufBytes } from './gguf-writer.js';

jest.setTimeout(60_000);

const sizes = { vocabularySize: 262, width: 32, layers: 1, heads: 2, intermediate: 64, context: 64, endTokens: [0] };
const { config, weights } = createDecoder(sizes, 3);
const request = { promptIds: [5, 6, 7], maxNewTokens: 5 };
const message = { role: 'user', content: 'What next?' } as const;

let folder: string;
let model: LanguageModel;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'without-tokenizer-'));
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(toHuggingFaceConfig(config)));
  await writeSafetensors(path.join(folder, 'model.safetensors'), weights);
  model = await LanguageModel.load(folder);
});
afterAll(async () => {
  await model.dispose();
  await rm(folder, { recursive: true });
});

test('a folder without a tokenizer answers token ids with the ids that it would give with one', async () => {
  expect(model.tokenizer.isPresent).toBe(false);
  const ids = await model.generate(request).tokenIds;
  for (const [name, json] of Object.entries(trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 })))
    await writeFile(path.join(folder, name), JSON.stringify(json));
  const worded = await LanguageModel.load(folder);
  expect(worded.tokenizer.isPresent).toBe(true);
  const generation = worded.generate(request);
  expect(await generation.tokenIds).toEqual(ids);
  expect(await generation.text).toBe(worded.tokenizer.decode(ids));
  await worded.dispose();
});

test('whatever needs text says what is missing', async () => {
  const missing = expect.objectContaining({
    name: 'TokenizerError',
    message: expect.stringMatching(/came without a tokenizer.*tokenizer\.json/),
    file: folder,
  });
  const generation = model.generate(request);
  await expect(generation.text).rejects.toEqual(missing);
  await expect(generation.usage).resolves.toMatchObject({ promptTokens: 3 });
  const stream = async () => {
    for await (const _ of generation.textStream) throw new Error('there is no text');
  };
  await expect(stream()).rejects.toEqual(missing);
  await expect(model.generate({ messages: [message] }).text).rejects.toEqual(missing);
  await expect(model.rank({ ...request, candidates: [{ id: '1', text: 'Heat' }], top: 1 })).rejects.toEqual(missing);
  expect(() => model.trie(['Heat'])).toThrow(TokenizerError);
  expect(() => model.example({ messages: [message], answer: 'Heat' })).toThrow(TokenizerError);
  expect(() => model.tokenizer.renderChat([message])).toThrow(TokenizerError);
});

test('it is saved without one, and answers as before: loaded, opened, in workers and quantised', async () => {
  const saved = path.join(folder, 'saved');
  const ids = await model.generate(request).tokenIds;
  await model.save(saved);
  expect((await readdir(saved)).filter((name) => name.startsWith('tokenizer'))).toEqual([]);

  const served = await LanguageModel.open(saved, { threads: 1 });
  expect(await served.generate(request).tokenIds).toEqual(ids);
  expect(await served.scheduler().generate(request).tokenIds).toEqual(ids);
  await served.dispose();

  const workers = await LanguageModel.openInWorkers(saved, { threads: 1 });
  for (const asked of [request, { ...request, settings: { do_sample: false } }]) {
    const answer = workers.generate(asked);
    expect(await answer.tokenIds).toEqual(ids);
    await expect(answer.text).rejects.toThrow(TokenizerError);
  }
  await workers.dispose();

  const loaded = await LanguageModel.load(saved);
  expect(loaded.tokenizer.isPresent).toBe(false);
  const [prompt, answer] = [request.promptIds, ids];
  const { model: trained } = await loaded.adapt([{ promptIds: prompt, answerIds: answer }], { strategy: 'full', steps: 1 })
    .result;
  await trained.save(saved, { trainable: false, quantize: 8 });
  const again = await LanguageModel.open(saved, { threads: 1 });
  expect(await again.generate(request).tokenIds).toHaveLength(ids.length);
  await again.dispose();
});

test('a tokenizer that is put into the saved folder is used, unless it has more tokens than the model', async () => {
  const saved = path.join(folder, 'worded');
  await model.save(saved);
  const put = async (vocabularySize: number) => {
    for (const [name, json] of Object.entries(trainByteLevelBpe(['Toy Story (1995) Toy Story'], { vocabularySize })))
      await writeFile(path.join(saved, name), JSON.stringify(json));
  };
  await put(262);
  expect((await LanguageModel.load(saved)).tokenizer.isPresent).toBe(true);
  await put(270);
  await expect(LanguageModel.open(saved)).rejects.toMatchObject({ problem: 'tokenizer-mismatch' });
});

test('a GGUF file may carry none, too', async () => {
  const file = path.join(folder, 'other', 'model.gguf');
  const names = { embed: 'token_embd.weight', norm: 'output_norm.weight' };
  const parts: Record<string, string> = {
    'input_layernorm.weight': 'attn_norm',
    'post_attention_layernorm.weight': 'ffn_norm',
    'self_attn.q_proj.weight': 'attn_q',
    'self_attn.k_proj.weight': 'attn_k',
    'self_attn.v_proj.weight': 'attn_v',
    'self_attn.o_proj.weight': 'attn_output',
    'mlp.gate_proj.weight': 'ffn_gate',
    'mlp.up_proj.weight': 'ffn_up',
    'mlp.down_proj.weight': 'ffn_down',
  };
  const tensors = Array.from(weights, ([name, { shape, data }]) => ({
    name: name.startsWith('model.layers.0.')
      ? `blk.0.${parts[name.slice('model.layers.0.'.length)]}.weight`
      : name.includes('embed')
        ? names.embed
        : names.norm,
    shape,
    format: 0,
    bytes: float32Bytes(data as Float32Array),
  }));
  const metadata = {
    'general.architecture': 'llama',
    'llama.block_count': 1,
    'llama.context_length': 64,
    'llama.embedding_length': 32,
    'llama.feed_forward_length': 64,
    'llama.attention.head_count': 2,
    'llama.attention.layer_norm_rms_epsilon': config.normEpsilon,
    'tokenizer.ggml.eos_token_id': 0,
  };
  await mkdir(path.dirname(file));
  await writeFile(file, ggufBytes(metadata, tensors));
  const bare = await LanguageModel.load(file);
  expect(bare.tokenizer.isPresent).toBe(false);
  expect(() => bare.tokenizer.encode('x')).toThrow(/model\.gguf came without a tokenizer/);
  expect(await bare.generate(request).tokenIds).not.toHaveLength(0);
  await bare.dispose();
  // One that does not fit is refused as ever.
  const large = TextTokenizer.fromFiles(trainByteLevelBpe(['Toy Story (1995) Toy Story'], { vocabularySize: 270 })).files;
  for (const [name, json] of Object.entries(large)) await writeFile(path.join(folder, 'other', name), JSON.stringify(json));
  await expect(LanguageModel.load(file)).rejects.toMatchObject({ problem: 'tokenizer-mismatch' });
});
