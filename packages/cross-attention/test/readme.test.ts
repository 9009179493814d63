import * as files from 'node:fs/promises';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import * as transformers from '@huggingface/transformers';
import * as ours from '../src/index.js';
import { LocalHub } from './local-hub.js';
import { ToyUserEncoder } from './toy-user-encoder.js';
import type { ToyEmbedding } from './toy-user-encoder.js';

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'readme-'))));
afterAll(async () => rm(folder, { recursive: true }));

const specialIds = ['<padding>', '<mask>', '<unknown>', '<missing>'];
const modules: Record<string, object> = {
  '@user-llm/cross-attention': ours,
  '@user-llm/event-tokenizer': { FIRST_VALUE_ID: specialIds.length },
  '@huggingface/transformers': transformers,
  'node:fs/promises': files,
};
type Scope = Record<string, unknown>;

/** Runs a block with the names of `scope`, and adds the constants that it declares to them. */
async function run(code: string, scope: Scope): Promise<void> {
  const body = code.replace(
    /^import (\{[^}]*\}) from '([^']+)';$/gm,
    (_, names: string, from: string) => `const ${names} = modules['${from}'];`,
  );
  const declared = [...body.matchAll(/^const (?:(\w+)|\{([^}]*)\}) =/gm)].flatMap(([, name, several]) =>
    name === undefined ? several.split(',').map((part) => part.split(':').at(-1)!.split('=')[0].trim()) : [name],
  );
  const AsyncFunction = (async () => undefined).constructor as new (
    ...parts: string[]
  ) => (...values: unknown[]) => Promise<Scope>;
  const all: Scope = { modules, ...scope };
  const names = Object.keys(all).filter((name) => !declared.includes(name));
  const result = await new AsyncFunction(...names, `${body}\nreturn { ${declared.join(', ')} };`)(
    ...names.map((name) => all[name]),
  );
  Object.assign(scope, result);
}

test('the code of the README runs', async () => {
  const readme = await readFile(path.join(path.dirname(fileURLToPath(import.meta.url)), '../README.md'), 'utf8');
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  expect(blocks).toHaveLength(15);
  const [opening, scratch, named, text, mixture, aligning, ...rest] = blocks;
  const [ranking, fitted, labels, serving, many, storing, threads, blind, plain] = rest;

  const titles = [
    'Heat (1995)',
    'Toy Story (1995)',
    'Toy Story 2 (1999)',
    'Jumanji (1995)',
    'Léon (1994)',
    'The Quiet Harbour (2001)',
  ];
  const written: string[] = [];
  const logged: unknown[][] = [];
  const shown: unknown[][] = [];
  const received: ours.HubProgress[] = [];
  // Everybody sees the films in turn: twenty each, and the first one is another user by user.
  const films = new Map(
    Array.from({ length: 48 }, (_, i) => [`user-${i}`, Array.from({ length: 20 }, (_, k) => (i + k + 2) % titles.length)]),
  );
  const watched = Array.from({ length: 36 }, (_, i) => {
    const [user, end] = [`user-${i}`, 2 + (i % 18)];
    return { history: { user, end }, last: titles[films.get(user)![end - 1]], next: titles[films.get(user)![end]] };
  });
  const encoder = ToyUserEncoder.create(1);
  const stored: ToyEmbedding[] = [];
  const scope: Scope = {
    titles,
    encoder,
    events: films,
    watched,
    eventTokenizer: { vocabulary: () => [...specialIds, ...titles.map((_, i) => `film-${i}`)] },
    store: {
      putMany: async (embeddings: ToyEmbedding[]) => void stored.push(...embeddings),
      get: async ({ user }: { user: string }, { encoder }: { encoder: string }) => {
        const embedding = stored.find((each) => each.user === user && each.encoder === encoder);
        return embedding === undefined ? { status: 'missing' } : { status: 'found', embedding };
      },
    },
    messages: [{ role: 'user', content: 'What next?' }],
    folder: path.join(folder, 'base'),
    place: path.join(folder, 'my-model'),
    checkpointFile: path.join(folder, 'run.safetensors'),
    signal: new AbortController().signal,
    onProgress: (progress: ours.HubProgress) => received.push(progress),
    show: (...what: unknown[]) => shown.push(what),
    console: { log: (...what: unknown[]) => logged.push(what) },
    process: { stdout: { write: (piece: string) => written.push(piece) } },
  };
  await run(scratch, scope);
  const speaker = scope.speaker as ours.LanguageModel;
  expect(scope.example).toMatchObject({
    history: { user: 'user-42', end: 20 },
    promptIds: expect.any(Array),
    answerIds: expect.any(Array),
  });
  await speaker.save(scope.folder as string);

  const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
  const files: Record<string, Uint8Array> = {};
  for (const name of names) files[name] = await readFile(path.join(scope.folder as string, name));
  const hub = new LocalHub({ 'HuggingFaceTB/SmolLM2-135M-Instruct': { files, revisions: { main: '1'.repeat(40) } } });
  await hub.start();
  Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: path.join(folder, 'cache') });
  await run(named, scope);
  await hub.stop();
  expect((scope.small as ours.LanguageModel).weights).toEqual(speaker.weights);
  expect(received.length).toBeGreaterThan(0);

  const messages = scope.messages as ours.ChatMessage[];
  await run(opening, scope);
  expect(shown).toEqual([1, 2, 3].map((step) => [step, expect.any(Number), expect.any(Number)]));
  const model = scope.model as ours.LanguageModel;
  expect(model.weights).toEqual(speaker.weights);
  expect((scope.adapted as ToyUserEncoder).manifest.hash).toBe(model.user!.encoder);
  expect((scope.embedding as ToyEmbedding).encoder).toBe(model.user!.encoder);
  expect(logged[0][0]).toMatchObject({ answerTokens: expect.any(Number) });
  expect(written.join('')).toBe(await (scope.answer as ours.Generation).text);
  expect(logged[1]).toEqual([[{ id: '1', score: expect.any(Number) }]]);

  scope.examplesOfText = titles.map((answer) => speaker.example({ messages, answer }));
  scope.heldOut = [speaker.example({ messages, answer: 'Heat 2' })];
  await run(text, scope);
  expect((scope.record as ours.TrainingRecord).validation.map(({ step }) => step)).toEqual([2, 4]);

  await run(mixture, scope);
  expect(logged.at(-1)).toEqual([2 * 8]);

  await run(aligning, scope);
  const { model: next } = scope.next as ours.AdaptableModel<ours.TrainableEncoder<never>>;
  const unaligned = speaker.withUserEmbeddings({ encoder: encoder.trainable(films), integration: scope.way as ours.Integration });
  expect(next.user!.weights).not.toEqual(unaligned.model.user!.weights);
  expect(next.user!.encoder).toBe((scope.alignedEncoder as ToyUserEncoder).manifest.hash);
  expect((scope.onward as ours.LanguageModel).user!.encoder).not.toBe(next.user!.encoder);

  await run(ranking, scope);
  expect((scope.best as ours.RankedCandidates).items).toHaveLength(3);
  expect(logged.at(-2)![0]).toBe('item-tokens');
  // The retriever puts these two last: of the films that it does not expect, the last one, and the one that it does not know.
  const anew = scope.anew as ours.Ranking;
  expect(anew.items.includes(4) || anew.items.includes(6)).toBe(false);
  expect(anew.way).toBe('retrieve');
  expect(scope.names).toEqual(Array.from(anew.items, (place) => `film-${place}`));

  await run(fitted, scope);
  // One example is ranked right by rows that were fitted to it.
  expect(logged.at(-1)).toEqual([1]);

  await run(labels, scope);
  expect(logged.at(-1)).toEqual(['drama']);

  await run(serving, scope);
  const { items } = scope.ranking as ours.Ranking;
  expect(items).toHaveLength(3);
  expect([...items]).not.toContain(0);
  expect(scope.found).toEqual(Array.from(items, (place) => titles[place]));

  await run(many, scope);
  expect(logged.at(-1)![0]).toEqual([expect.any(String), expect.any(String)]);

  await run(storing, scope);
  // All that a store asks of a record.
  const { sequence, watermark, tokenizer } = scope.embedding as ToyEmbedding;
  const record = expect.objectContaining({ user: 'user-42', sequence, watermark, tokenizer, dtype: 'float32' });
  expect(stored).toEqual([record, record]);
  expect(stored[0]).toBe(scope.embedding);
  expect(stored[1].encoder).toMatch(/^user-state-/);
  const user = scope.embedding as ToyEmbedding;
  expect(logged.at(-1)).toEqual([await model.generate({ messages, user, maxNewTokens: 8 }).text]);
  await model.dispose();

  await run(threads, scope);
  expect(logged.at(-1)![0]).toHaveLength(3);

  await run(blind, scope);
  expect((scope.prefix as ours.Prefix).ids.length).toBe(speaker.tokenizer.chat(messages).length - 4);
  expect(logged.at(-1)![0]).toEqual(expect.any(String));

  await run(plain, scope);
  expect(logged.at(-1)![0]).toEqual([expect.any(String)]);
  await (scope.plain as transformers.PreTrainedModel).dispose();
}, 300_000);
