import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { writeSafetensors } from '@user-llm/onnx-autograd';
import { checkModel } from '../src/check-model.js';
import { createDecoder } from '../src/decoder/decoder.js';
import { toHuggingFaceConfig } from '../src/folder/decoder-config.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';

const sizes = { vocabularySize: 262, width: 32, layers: 1, heads: 2, intermediate: 64, context: 64, endTokens: [0] };
const { config, weights } = createDecoder(sizes, 3);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'checked-'));
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(toHuggingFaceConfig(config)));
  await writeSafetensors(path.join(folder, 'model.safetensors'), weights);
});
afterEach(async () => rm(folder, { recursive: true }));

async function addTokenizer(): Promise<void> {
  for (const [name, json] of Object.entries(trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 })))
    await writeFile(path.join(folder, name), JSON.stringify(json));
}

test('a model folder says whether it has a tokenizer', async () => {
  expect(await checkModel(folder)).toEqual({ hasTokenizer: false });
  await addTokenizer();
  expect(await checkModel(folder)).toEqual({ hasTokenizer: true });
});

test('weights that were cut short are refused without reading them', async () => {
  const file = path.join(folder, 'model.safetensors');
  await truncate(file, (await readFile(file)).length - 4);
  await expect(checkModel(folder)).rejects.toMatchObject({
    problem: 'bad-weights',
    message: expect.stringMatching(/model\.safetensors.*may be cut short/),
  });
});

test('weights of another model than its config.json are refused', async () => {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(toHuggingFaceConfig({ ...config, intermediateSize: 32 })));
  await expect(checkModel(folder)).rejects.toMatchObject({ problem: 'shape-mismatch' });
});

test('heads that could not be served are refused', async () => {
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(toHuggingFaceConfig({ ...config, headSize: 8 })));
  await expect(checkModel(folder)).rejects.toMatchObject({ problem: 'unsupported', message: expect.stringMatching(/head_dim/) });
});

test('a name on a hub is taken as it is', async () => {
  expect(await checkModel('nobody/nothing')).toBeUndefined();
});
