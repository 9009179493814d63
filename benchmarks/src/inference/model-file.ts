import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { beside } from './review-text.js';

/** The GGUF file that is measured: the named one, or SmolLM2-135M-Instruct's under USER_LLM_MODELS. */
export async function ggufToMeasure(named: string | undefined): Promise<string> {
  if (named !== undefined) return named;
  const folder = path.join(beside('USER_LLM_MODELS', 'models'), 'SmolLM2-135M-Instruct');
  const file = (await readdir(folder).catch(() => [])).find((name) => name.endsWith('.gguf'));
  if (file !== undefined) return path.join(folder, file);
  throw new Error(
    'There is no SmolLM2-135M-Instruct with a .gguf file; set USER_LLM_MODELS to the folder that holds it, or name a file with --model.',
  );
}
