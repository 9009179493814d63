import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readGgufHeader } from '../src/gguf/gguf-header.js';
import { ggufTokenizer } from '../src/gguf/gguf-tokenizer.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { ggufBytes } from './gguf-writer.js';
import type { Metadata } from './gguf-writer.js';

interface Case {
  readonly text: string;
  readonly ids: readonly number[];
}

/** Small tokenizers with what their own libraries make of some texts; `madeWith` says which. */
const references = JSON.parse(await readFile(path.join(import.meta.dirname, 'gguf-tokenizers.json'), 'utf8')) as {
  readonly sentencePiece: {
    readonly tokens: readonly string[];
    readonly scores: readonly number[];
    readonly types: readonly number[];
    readonly cases: readonly (Case & { readonly decoded: string; readonly withoutPrefix: readonly number[] })[];
  };
  readonly tekken: { readonly tokens: readonly string[]; readonly merges: readonly string[]; readonly cases: readonly Case[] };
};

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'gguf-tokenizer-'))));
afterEach(async () => rm(folder, { recursive: true }));

async function tokenizerOf(metadata: Metadata): Promise<TextTokenizer> {
  const file = path.join(folder, 'model.gguf');
  await writeFile(file, ggufBytes(metadata, []));
  return ggufTokenizer(await readGgufHeader(file));
}

const special = { 'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2 };
const question = [{ role: 'user', content: 'Toy Story (1995)' }] as const;

describe("SentencePiece, as Llama 2's and Mistral's files carry it", () => {
  const { tokens, scores, types, cases } = references.sentencePiece;
  const metadata: Metadata = {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.pre': 'default',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.scores': Float32Array.from(scores),
    'tokenizer.ggml.token_type': Int32Array.from(types),
    ...special,
  };

  test('gives the ids and the text that SentencePiece gives', async () => {
    const tokenizer = await tokenizerOf(metadata);
    for (const { text, ids, decoded } of cases) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
  });

  test('puts no space before a text where the file says so', async () => {
    const tokenizer = await tokenizerOf({ ...metadata, 'tokenizer.ggml.add_space_prefix': false });
    for (const { text, withoutPrefix } of cases) {
      expect(tokenizer.encode(text)).toEqual(withoutPrefix);
      // To SentencePiece, ▁ is a space.
      expect(tokenizer.decode(withoutPrefix)).toBe(text.replaceAll('▁', ' '));
    }
  });

  test('begins a prompt with its first token, and ends it with its last, as the file says', async () => {
    const [, { ids }] = cases;
    const chat = async (changes: Metadata) =>
      (await tokenizerOf({ ...metadata, ...changes })).chat(question, { addGenerationPrompt: false });
    expect(await chat({})).toEqual([1, ...ids]);
    expect(await chat({ 'tokenizer.ggml.add_bos_token': false })).toEqual(ids);
    expect(await chat({ 'tokenizer.ggml.add_eos_token': true })).toEqual([1, ...ids, 2]);
  });

  test('takes special tokens out of a text where they are asked for, and byte tokens never', async () => {
    const tokenizer = await tokenizerOf(metadata);
    expect(tokenizer.encode('<s>Toy Story (1995)</s>', { specialTokens: 'parse' })).toEqual([1, ...cases[1].ids, 2]);
    expect(tokenizer.encode('<s>')).not.toContain(1);
    expect(tokenizer.encode('<0x41>')).not.toContain(tokens.indexOf('<0x41>'));
  });

  test('is the same once it was written as files', async () => {
    const { files } = await tokenizerOf(metadata);
    const again = TextTokenizer.fromFiles(JSON.parse(JSON.stringify(files)));
    for (const { text, ids } of cases) expect(again.encode(text)).toEqual(ids);
  });

  test('a piece of a million characters is none to look up', async () => {
    const long = 'ab'.repeat(500_000);
    const tokenizer = await tokenizerOf({
      ...metadata,
      'tokenizer.ggml.tokens': [...tokens, long],
      'tokenizer.ggml.scores': Float32Array.from([...scores, 0]),
      'tokenizer.ggml.token_type': Int32Array.from([...types, 1]),
    });
    expect(tokenizer.encode(cases[1].text)).toEqual(cases[1].ids);
  });
});

test("words cut as Mistral's tekken does it", async () => {
  const { tokens, merges, cases } = references.tekken;
  const tokenizer = await tokenizerOf({
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'tekken',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': Int32Array.from(tokens, (_, id) => (id < 4 ? 3 : 1)),
    'tokenizer.ggml.merges': merges,
    ...special,
  });
  for (const { text, ids } of cases) {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  }
  // The last case is the question.
  expect(tokenizer.chat(question, { addGenerationPrompt: false })).toEqual([1, ...cases.at(-1)!.ids]);
});
