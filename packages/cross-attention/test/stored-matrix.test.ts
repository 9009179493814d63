import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { LanguageModel } from '../src/language-model.js';
import { ModelFolderError } from '../src/folder/model-folder-error.js';
import { StoredMatrix } from '../src/decoder/stored-matrix.js';
import type { Precision } from '../src/decoder/packable-matrix.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { filmModel, films } from './film-model.js';

// Seconds on a busy machine.
jest.setTimeout(60_000);

const model = filmModel.withItemTokens(films);
const trie = model.trie(films.map(({ text }) => text));
const messages = [{ role: 'user', content: 'What next?' }] as const;
const matrix = 'model.layers.1.mlp.up_proj.weight';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'stored-'));
});
afterAll(async () => rm(folder, { recursive: true }));

/** Saves the model anew, and says where. */
async function saved(name: string, options: Precision & { trainable?: boolean }): Promise<string> {
  const place = path.join(folder, name);
  await model.save(place, options);
  return place;
}

/** All that a model says of the films: by title, for which it has a graph of its own, by item tokens, and in words. */
async function answers(served: ServedModel) {
  const byTitle = await served.rank({ messages, trie, top: films.length, width: 50 });
  const byTokens = await served.rank({ messages, by: 'item-tokens', top: films.length });
  const text = await served.generate({ messages, maxNewTokens: 8 }).tokenIds;
  await served.dispose();
  return { titles: [...byTitle.items], titleScores: [...byTitle.scores], tokenScores: [...byTokens.scores], text };
}

test.each([
  { quantize: 4 },
  { quantize: 8 },
  { quantize: 4, accuracyLevel: 0 },
  { quantize: 4, codes: 'bytes' },
] satisfies Precision[])('saved with %p, it answers and ranks with just these blocks', async (precision) => {
  const place = await saved('rounded', precision);
  const open = () => LanguageModel.open(place, { threads: 1 });
  const before = await answers(await model.serve({ codes: 'nibbles', ...precision, threads: 1 }));
  expect(await answers(await open())).toEqual(before);
  const loaded = await LanguageModel.load(place);
  expect(await answers(await loaded.serve({ codes: 'nibbles', threads: 1 }))).toEqual(before);
  const exact = await answers(await model.serve({ threads: 1 }));
  expect(before.titleScores).not.toEqual(exact.titleScores);
  expect(await answers(await loaded.serve({ quantize: false, threads: 1 }))).toEqual(exact);
  await model.save(place, { ...precision, trainable: false });
  expect(await answers(await open())).toEqual(before);
});

test('loaded, its matrices lie in the folder until they are asked for, the float32 ones apart from the blocks', async () => {
  const place = await saved('apart', { quantize: 4 });
  const loaded = await LanguageModel.load(place);
  const kept = loaded.weights.get(matrix)!;
  expect(kept).toBeInstanceOf(StoredMatrix);
  expect(kept.data).toEqual(model.weights.get(matrix)!.data);
  const before = await answers(await loaded.serve({ threads: 1 }));
  await rm(path.join(place, 'model.safetensors'));
  expect(await answers(await loaded.serve({ threads: 1 }))).toEqual(before);
  const other = loaded.weights.get('model.layers.0.mlp.up_proj.weight')!;
  expect(() => other.data).toThrow(/model\.safetensors could not be read again.*Load it again/);
});

test('saved again, in its own place too, the blocks are the same', async () => {
  const place = await saved('again', { quantize: 4 });
  const before = await answers(await LanguageModel.open(place, { threads: 1 }));
  const loaded = await LanguageModel.load(place);
  await loaded.save(place);
  expect(await answers(await loaded.serve({ codes: 'nibbles', threads: 1 }))).toEqual(before);
  const twice = await LanguageModel.load(place);
  expect(await answers(await twice.serve({ codes: 'nibbles', threads: 1 }))).toEqual(before);
  expect(twice.weights.get(matrix)!.data).toEqual(model.weights.get(matrix)!.data);
});

test('a folder that was replaced since it was opened is not taken for the same model', async () => {
  const place = await saved('replaced', { quantize: 4 });
  const [opened, loaded] = [await LanguageModel.open(place, { threads: 1 }), await LanguageModel.load(place)];
  await model.save(place, { quantize: 8 });
  const failures = [
    await opened.rank({ messages, trie, top: 1 }).catch((error: unknown) => error),
    await loaded.serve({ threads: 1 }).catch((error: unknown) => error),
  ];
  for (const error of failures) expect(ModelFolderError.isInstance(error) && error.problem).toBe('changed');
  expect((failures[0] as Error).message).toMatch(/model\.onnx is not the file that was opened any more.*Open it again/);
  await opened.dispose();
});
