import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AutoModelForCausalLM, AutoTokenizer } from '@huggingface/transformers';
import { float32, graph, toOnnx, zeros } from '@user-llm/onnx-autograd';
import { createDecoder } from '../src/decoder/decoder.js';
import type { Precision } from '../src/decoder/packable-matrix.js';
import type { ContextualModel } from '../src/folder/contextual-folder.js';
import { readContextualFile, readContextualFolder, writeContextualFolder } from '../src/folder/contextual-folder.js';
import { ModelFolderError } from '../src/folder/model-folder-error.js';
import { LanguageModel } from '../src/language-model.js';
import { saveModel } from '../src/saved-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { smallDecoderConfig } from './small-decoder-config.js';

const tokenizer = trainByteLevelBpe(['Heat (1995)', 'Heat (1995)'], { vocabularySize: 280 });
const V = TextTokenizer.fromFiles(tokenizer).size;

/** A language model small enough to check by hand: the next token depends on the last one alone, as a table says. */
function bigramModel(follow: ReadonlyMap<number, number>): Uint8Array {
  const table = new Float32Array(V * V);
  for (const [last, next] of follow) table[last * V + next] = 10;
  const model = graph(({ input, parameter }) => ({
    logits: parameter('table', [V, V], zeros()).gather(input('input_ids', ['batch_size', 'sequence_length'], 'int64')),
  }));
  const weights = new Map([['table', float32(table, [V, V])]]);
  return toOnnx({ outputs: model.build({ training: false }).outputs, weights }).bytes;
}

const says = (text: string): ContextualModel => {
  const own = TextTokenizer.fromFiles(tokenizer);
  const [start] = own.encode('<|assistant|>', { specialTokens: 'parse' });
  const chain = [start, ...own.encode(text), own.eos];
  return {
    config: smallDecoderConfig(V, { layers: 1 }),
    tokenizer,
    model: bigramModel(new Map(chain.slice(1).map((id, i) => [chain[i], id]))),
    user: Uint8Array.of(1, 2, 3),
    manifest: { adapter: 'cross-attention', encoder: 'abc' },
  };
};

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'contextual-'));
  folder = path.join(parent, 'my-model');
});
afterEach(async () => rm(parent, { recursive: true }));

describe('a contextual model folder', () => {
  test('opens in plain transformers.js and generates', async () => {
    await writeContextualFolder(folder, says('Hi (1995)'));
    const open = { local_files_only: true };
    const model = await AutoModelForCausalLM.from_pretrained(folder, open);
    const theirs = await AutoTokenizer.from_pretrained(folder, open);
    const inputs = theirs.apply_chat_template([{ role: 'user', content: 'What next?' }], {
      add_generation_prompt: true,
      return_dict: true,
    }) as object;
    const output = (await model.generate({ ...inputs, max_new_tokens: 30, do_sample: false } as never)) as {
      tolist(): bigint[][];
    };
    const text = theirs.decode(output.tolist()[0].map(Number), { skip_special_tokens: false });
    expect(text).toBe('<|user|>What next?<|assistant|>Hi (1995)<|endoftext|>');
    await model.dispose();
  });

  test('comes back as it was written, with hashes', async () => {
    const model = { ...says('Hi'), extra: { 'weights/adapter.safetensors': Uint8Array.of(9) } };
    await writeContextualFolder(folder, model);
    const read = await readContextualFolder(folder);
    expect(read.config).toEqual(model.config);
    expect(read.manifest).toEqual(model.manifest);
    expect([...read.model]).toEqual([...model.model]);
    expect([...(read.user ?? [])]).toEqual([1, 2, 3]);
    expect(read.files['onnx/user.onnx']).toEqual({
      bytes: 3,
      sha256: '039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81',
    });
    expect([...((await readContextualFile(folder, 'weights/adapter.safetensors')) ?? [])]).toEqual([9]);
    expect(await readContextualFile(folder, 'weights/none')).toBeUndefined();
    expect((await readdir(folder)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'onnx',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'user_llm.json',
      'weights',
    ]);
  });

  test('takes a file in pieces, and records the whole', async () => {
    const [begin, end] = [Uint8Array.of(1, 2), Uint8Array.of(3)];
    const pieces = function* () {
      yield begin;
      yield end;
    };
    await writeContextualFolder(folder, {
      ...says('Hi'),
      extra: { 'pieces.bin': pieces(), 'whole.bin': Uint8Array.of(1, 2, 3) },
    });
    const { files } = await readContextualFolder(folder);
    expect(files['pieces.bin']).toEqual(files['whole.bin']);
    expect([...((await readContextualFile(folder, 'pieces.bin')) ?? [])]).toEqual([1, 2, 3]);
  });

  test('a model that no ONNX file holds is refused before anything is written, with what to do', async () => {
    const sizes = { vocabularySize: V, width: 32, layers: 1, heads: 2, context: 64 };
    const contents = { ...createDecoder(sizes, 1), tokenizer: TextTokenizer.fromFiles(tokenizer), base: 'a test' };
    const save = (precision: Precision) => saveModel(folder, contents, { trainable: true, ...precision }, { mostBytes: 50_000 });
    await expect(save({})).rejects.toMatchObject({
      problem: 'unwritable',
      message: expect.stringMatching(/my-model was not written: an ONNX file of it would have.*quantize: 8/),
    });
    expect(await readdir(parent)).toEqual([]);
    await save({ quantize: 4 });
    expect(await readdir(parent)).toEqual(['my-model']);
  });

  test('a second model replaces the first and leaves nothing beside it', async () => {
    await writeContextualFolder(folder, says('Hi'));
    await writeContextualFolder(folder, { ...says('Ho'), user: undefined });
    expect((await readContextualFolder(folder)).user).toBeUndefined();
    expect(await readdir(parent)).toEqual(['my-model']);
  });

  test('a folder of something else is not replaced; an empty one is used', async () => {
    await mkdir(folder);
    await writeContextualFolder(folder, says('Hi'));
    const other = path.join(parent, 'photos');
    await mkdir(other);
    await writeFile(path.join(other, 'cat.jpg'), 'x');
    await expect(writeContextualFolder(other, says('Hi'))).rejects.toThrow(/not empty and holds no user_llm\.json/);
    expect(await readdir(other)).toEqual(['cat.jpg']);
  });

  test('a failed write leaves the old model and no half of the new one', async () => {
    await writeContextualFolder(folder, says('Hi'));
    const before = await readFile(path.join(folder, 'user_llm.json'), 'utf8');
    // A file where a folder is needed makes the write fail half-way.
    const failing = { ...says('Ho'), extra: { 'config.json/x': Uint8Array.of(1) } };
    await expect(writeContextualFolder(folder, failing)).rejects.toThrow(/No partial model was left/);
    await expect(writeContextualFolder(folder, { ...says('Ho'), extra: { '../x': Uint8Array.of(1) } })).rejects.toThrow(
      /cannot be called/,
    );
    expect(await readFile(path.join(folder, 'user_llm.json'), 'utf8')).toBe(before);
    expect(await readdir(parent)).toEqual(['my-model']);
  });

  test.each([
    ['tokenizer.json', 'TokenizerError'],
    ['generation_config.json', 'ModelFolderError'],
  ])('%s that was saved and is gone is missed', async (name, kind) => {
    const sizes = { width: 32, layers: 1, heads: 2, context: 64 };
    await LanguageModel.create(sizes, tokenizer, 1).save(folder);
    await rm(path.join(folder, name));
    const message = expect.stringContaining(path.join(folder, name));
    await expect(LanguageModel.open(folder)).rejects.toMatchObject({ name: kind, message });
  });

  test('a changed model file and a plain model folder are refused', async () => {
    await writeContextualFolder(folder, says('Hi'));
    await writeFile(path.join(folder, 'onnx/user.onnx'), 'other');
    const error = await readContextualFolder(folder).catch((thrown: unknown) => thrown);
    expect(ModelFolderError.isInstance(error) && error.problem).toBe('damaged');
    expect((error as Error).message).toMatch(/user\.onnx.*hash differs/);
    await rm(path.join(folder, 'user_llm.json'));
    await expect(readContextualFolder(folder)).rejects.toThrow(/is not what `save` wrote.*`load\(\.\.\.\)` and `serve\(\)`/);
  });
});
