import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { DecoderWeights } from '../folder/hugging-face.js';
import { TextTokenizer } from '../text/text-tokenizer.js';
import { misfitOf } from '../text/tokenizer-fit.js';
import { ggufConfig } from './gguf-config.js';
import { GgufError } from './gguf-error.js';
import { readGgufHeader } from './gguf-header.js';
import { ggufValues, ggufWeights } from './gguf-tensors.js';
import { ggufTokenizer } from './gguf-tokenizer.js';

/** A language model read from a GGUF file. Its weights stay in the file until they are used; see `GgufTensor`. */
export interface GgufModel {
  readonly file: string;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly tokenizer: TextTokenizer;
}

/**
 * Reads a language model from a GGUF file: config from its metadata, tokenizer and chat template from the `tokenizer.json` beside the
 * file or else from the metadata. Throws a `GgufError` (or the tokenizer's own `TokenizerError`) that names what is wrong, after reading
 * the header alone.
 */
export async function readGguf(file: string): Promise<GgufModel> {
  const folder = path.dirname(file);
  const beside = await stat(path.join(folder, 'tokenizer.json')).catch(() => undefined);
  const header = await readGgufHeader(file, { wordLists: beside === undefined });
  const config = ggufConfig(header, ggufValues(header, 'rope_freqs.weight'));
  const weights = ggufWeights(header, config);
  const carried = () => (header.metadata.has('tokenizer.ggml.model') ? ggufTokenizer(header) : TextTokenizer.absent(file));
  const chatTemplate = header.metadata.get('tokenizer.chat_template');
  const known = { ...config, ...(typeof chatTemplate === 'string' ? { chatTemplate } : {}) };
  const tokenizer = beside === undefined ? carried() : await TextTokenizer.load(folder, known);
  const misfit = misfitOf(tokenizer, config);
  if (misfit !== undefined)
    throw new GgufError(
      'tokenizer-mismatch',
      file,
      `the tokenizer${beside === undefined ? '' : ' beside the file'} ${misfit}. Use the tokenizer that came with these weights.`,
      { expected: [config.vocabularySize], actual: [tokenizer.size] },
    );
  const endTokens = config.endTokens.length === 0 && tokenizer.isPresent ? [tokenizer.eos] : config.endTokens;
  return { file, config: { ...config, endTokens }, weights, tokenizer };
}

/** The GGUF file that a path means: itself, or the only one in a folder without safetensors; undefined for anything else. */
export async function ggufFileOf(place: string): Promise<string | undefined> {
  if (place.endsWith('.gguf')) return place;
  const names = await readdir(place).catch(() => []);
  const files = names.filter((name) => name.endsWith('.gguf'));
  const safetensors = names.some((name) => name === 'model.safetensors' || name === 'model.safetensors.index.json');
  return files.length === 1 && !safetensors ? path.join(place, files[0]) : undefined;
}
