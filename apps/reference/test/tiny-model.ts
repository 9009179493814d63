import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { LanguageModel, trainByteLevelBpe } from '@user-llm/cross-attention';

const shape = { width: 32, layers: 4, heads: 2, keyValueHeads: 1, intermediate: 64, context: 512 };

/** A folder in Hugging Face layout with a random decoder of four layers and a tokenizer of films. */
export async function tinyModel(): Promise<string> {
  const folder = path.join(await mkdtemp(path.join(os.tmpdir(), 'tiny-')), 'model');
  const tokenizer = trainByteLevelBpe(['film 1', 'film 23', 'What is next?'], {
    vocabularySize: 300,
    maximumLength: shape.context,
  });
  const model = LanguageModel.create(shape, tokenizer, 1);
  await model.save(folder);
  await model.dispose();
  // What is left is a model that knows nothing of this project.
  await rm(path.join(folder, 'user_llm.json'));
  return folder;
}
