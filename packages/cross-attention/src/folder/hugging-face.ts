import { readFile, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { SafetensorsError, readSafetensors, readSafetensorsHeader, toFloat32 } from '@user-llm/onnx-autograd';
import type { HostTensor, SafetensorsEntry, SafetensorsHeader } from '@user-llm/onnx-autograd';
import { TextTokenizer } from '../text/text-tokenizer.js';
import { misfitOf } from '../text/tokenizer-fit.js';
import { decoderTensorShapes, parseDecoderConfig } from './decoder-config.js';
import type { DecoderConfig } from './decoder-config.js';
import { fileSource } from './file-range.js';
import type { FileSource } from './file-range.js';
import { ModelFolderError } from './model-folder-error.js';

/** A decoder's weights in float32 by Hugging Face's names; with tied embeddings only `model.embed_tokens.weight`, no `lm_head.weight`. */
export type DecoderWeights = Map<string, HostTensor>;

/** A language model read from a Hugging Face folder. */
export interface HuggingFaceModel {
  readonly folder: string;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly tokenizer: TextTokenizer;
}

/**
 * Reads a language model from a local folder in Hugging Face layout: `config.json`, the tokenizer's files, and weights as
 * `model.safetensors` or its shards. Without a tokenizer.json it takes token ids alone. Throws a `ModelFolderError` (or the tokenizer's own `TokenizerError`) that names what is wrong.
 */
export async function readHuggingFaceFolder(folder: string): Promise<HuggingFaceModel> {
  const { config, weightFiles, tokenizer } = await readAllButWeights(folder);
  return { folder, config, tokenizer, weights: await readWeightFiles(folder, config, weightFiles) };
}

/** What is cheap to read and to check. Weights are found, and not opened. Throws as `readHuggingFaceFolder` does. */
export async function readAllButWeights(folder: string): Promise<{
  readonly config: DecoderConfig;
  readonly tokenizer: TextTokenizer;
  readonly weightFiles: ReadonlyMap<string, readonly string[] | undefined>;
}> {
  const config = await readDecoderConfig(folder);
  const weightFiles = await findWeights(folder);
  const tokenizer = await TextTokenizer.loadIfPresent(folder, config);
  checkTokenizerFits(folder, tokenizer, config);
  const endTokens = config.endTokens.length === 0 && tokenizer.isPresent ? [tokenizer.eos] : config.endTokens;
  return { config: { ...config, endTokens }, tokenizer, weightFiles };
}

/** Reads `config.json`; end tokens are those of `generation_config.json` where it names some, as transformers generates with them. */
export async function readDecoderConfig(folder: string): Promise<DecoderConfig> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    const what = found === undefined ? 'There is no such folder' : 'This is not a folder';
    throw new ModelFolderError(
      'no-folder',
      folder,
      `${what}: ${folder}. Give the folder of a language model in Hugging Face layout, a .gguf file, or owner/model of a hub.`,
    );
  }
  const json = await readJsonFile(folder, 'config.json');
  if (json === undefined) {
    throw new ModelFolderError(
      'no-config',
      folder,
      `${folder} holds no config.json, so it is not a model in Hugging Face layout${await foundInstead(folder)}.`,
      { file: 'config.json' },
    );
  }
  const result = parseDecoderConfig(json);
  if ('unsupported' in result) {
    throw new ModelFolderError('unsupported', folder, `${path.join(folder, 'config.json')}: ${result.unsupported}.`, {
      file: 'config.json',
    });
  }
  if ('problems' in result) {
    const message = `${path.join(folder, 'config.json')} does not describe a decoder: ${result.problems.join('; ')}.`;
    throw new ModelFolderError('bad-config', folder, message, { file: 'config.json' });
  }
  const generation = await readJsonFile(folder, 'generation_config.json');
  const end = generation?.eos_token_id;
  const endTokens = [end]
    .flat()
    .filter((id): id is number => Number.isInteger(id) && (id as number) < result.config.vocabularySize);
  return endTokens.length > 0 ? { ...result.config, endTokens } : result.config;
}

/** Makes a tensor that reads its values from their file when it is asked for them; undefined for one that is to be read at once. */
export type LaterTensor = (name: string, file: FileSource, entry: SafetensorsEntry) => HostTensor | undefined;

/** Reads the weights that `config` asks for and checks each one's shape. */
export async function readDecoderWeights(folder: string, config: DecoderConfig, later?: LaterTensor): Promise<DecoderWeights> {
  return readWeightFiles(folder, config, await findWeights(folder), later);
}

/** Throws a `ModelFolderError` for a tokenizer that is not of this model. */
export function checkTokenizerFits(folder: string, tokenizer: TextTokenizer, config: DecoderConfig): void {
  const misfit = misfitOf(tokenizer, config);
  if (misfit === undefined) return;
  throw new ModelFolderError(
    'tokenizer-mismatch',
    folder,
    `${folder}: the tokenizer ${misfit}. Use the tokenizer's files that came with these weights.`,
    { file: 'tokenizer.json', expected: [config.vocabularySize], actual: [tokenizer.size] },
  );
}

/** The weight files: each with the names of the tensors to look for in it, or all of them. */
async function findWeights(folder: string): Promise<Map<string, readonly string[] | undefined>> {
  const single = await stat(path.join(folder, 'model.safetensors')).catch(() => undefined);
  if (single !== undefined) return new Map([['model.safetensors', undefined]]);
  const indexName = 'model.safetensors.index.json';
  const index = await readJsonFile(folder, indexName);
  if (index === undefined) {
    throw new ModelFolderError(
      'no-weights',
      folder,
      `${folder} holds no weights: neither model.safetensors nor ${indexName} is there${await foundInstead(folder)}.`,
    );
  }
  const shards = new Map<string, string[]>();
  const map = index.weight_map;
  const entries = typeof map === 'object' && map !== null ? Object.entries(map) : [];
  for (const [tensor, file] of entries) {
    // A shard lies beside its index; a path that leads elsewhere is not followed.
    if (typeof file !== 'string' || path.basename(file) !== file || !file.endsWith('.safetensors')) {
      const message = `${path.join(folder, indexName)} names ${JSON.stringify(file)} for a tensor; a shard is a .safetensors file in the same folder.`;
      throw new ModelFolderError('bad-weights', folder, message, { file: indexName, tensor });
    }
    const names = shards.get(file);
    if (names === undefined) shards.set(file, [tensor]);
    else names.push(tensor);
  }
  if (shards.size === 0) {
    throw new ModelFolderError('bad-weights', folder, `${path.join(folder, indexName)} has no weight_map.`, { file: indexName });
  }
  return shards;
}

type WantedTensors = Map<string, { readonly name: string; readonly stored: string; readonly entry: SafetensorsEntry }[]>;

/**
 * Which tensors to read from which file, from the headers alone: a folder that does not fit, or a file that was cut short, is refused
 * before any values are read.
 */
export async function checkWeightFiles(
  folder: string,
  config: DecoderConfig,
  files: ReadonlyMap<string, readonly string[] | undefined>,
): Promise<WantedTensors> {
  const fileOfTensor = new Map<string, string>();
  const headers = new Map<string, SafetensorsHeader>();
  for (const [file, names] of files) {
    const header = await guarded(folder, file, () => readSafetensorsHeader(path.join(folder, file)));
    headers.set(file, header);
    for (const name of names ?? header.entries.keys()) if (header.entries.has(name)) fileOfTensor.set(name, file);
  }
  const wanted: WantedTensors = new Map();
  for (const [name, shape] of decoderTensorShapes(config)) {
    const stored = storedName(name, config, fileOfTensor);
    const file = fileOfTensor.get(stored);
    const entry = file === undefined ? undefined : headers.get(file)?.entries.get(stored);
    if (file === undefined || entry === undefined) {
      const message = `${folder}: the weights lack the tensor '${name}' of shape [${shape.join(', ')}], which config.json calls for.`;
      throw new ModelFolderError('missing-tensor', folder, message, { tensor: name, expected: shape });
    }
    const actual = entry.shape;
    if (actual.length !== shape.length || actual.some((size, i) => size !== shape[i])) {
      const message =
        `${path.join(folder, file)}: tensor '${stored}' has shape [${actual.join(', ')}], but config.json calls for [${shape.join(', ')}]. ` +
        'The two files are not of the same model.';
      throw new ModelFolderError('shape-mismatch', folder, message, { file, tensor: stored, expected: shape, actual });
    }
    const list = wanted.get(file);
    if (list === undefined) wanted.set(file, [{ name, stored, entry }]);
    else list.push({ name, stored, entry });
  }
  return wanted;
}

async function readWeightFiles(
  folder: string,
  config: DecoderConfig,
  files: ReadonlyMap<string, readonly string[] | undefined>,
  later?: LaterTensor,
): Promise<DecoderWeights> {
  const weights: DecoderWeights = new Map();
  for (const [file, tensors] of await checkWeightFiles(folder, config, files)) {
    const source = fileSource(path.join(folder, file));
    const unread = tensors.filter(({ name, entry }) => {
      const tensor = later?.(name, source, entry);
      if (tensor !== undefined) weights.set(name, tensor);
      return tensor === undefined;
    });
    const names = unread.map(({ stored }) => stored);
    const read = await guarded(folder, file, () => readSafetensors(path.join(folder, file), { names, asFloat32: true }));
    unread.forEach(({ name, entry }, i) => {
      const tensor = read.tensors.get(names[i]);
      if (tensor?.dtype !== 'float32') {
        const message = `${path.join(folder, file)}: tensor '${names[i]}' is ${tensor?.dtype ?? 'absent'}; weights are float32, float16 or bfloat16.`;
        throw new ModelFolderError('bad-weights', folder, message, { file, tensor: names[i] });
      }
      weights.set(name, { data: toFloat32(tensor), shape: entry.shape, dtype: 'float32' });
    });
  }
  return weights;
}

/** A tied matrix is stored once, under either of its two names. */
function storedName(name: string, config: DecoderConfig, fileOfTensor: ReadonlyMap<string, string>): string {
  const tied = config.tiedEmbeddings && name === 'model.embed_tokens.weight';
  return tied && !fileOfTensor.has(name) && fileOfTensor.has('lm_head.weight') ? 'lm_head.weight' : name;
}

async function guarded<T>(folder: string, file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!SafetensorsError.isInstance(error)) throw error;
    throw new ModelFolderError('bad-weights', folder, error.message, { file, tensor: error.tensor, cause: error });
  }
}

/** A JSON object from a folder; undefined where there is no such file. Throws a `ModelFolderError` for what cannot be read. */
export async function readJsonFile(folder: string, name: string): Promise<Record<string, unknown> | undefined> {
  const file = path.join(folder, name);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ModelFolderError('bad-config', folder, `${file} could not be read (${(error as Error).message}).`, {
      file: name,
      cause: error,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ModelFolderError('bad-config', folder, `${file} is not JSON (${(error as Error).message}).`, {
      file: name,
      cause: error,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ModelFolderError('bad-config', folder, `${file} is not a JSON object.`, { file: name });
  }
  return value as Record<string, unknown>;
}

/** A hint when a folder holds a model in a form that is not read here. */
async function foundInstead(folder: string): Promise<string> {
  const names = (await readdir(folder)).sort();
  const gguf = names.filter((name) => name.endsWith('.gguf'));
  if (gguf.length > 1)
    return ` (found ${gguf.slice(0, 3).join(', ')}; name one of the GGUF files, as in LanguageModel.load(folder, { file: '${gguf[0]}' }))`;
  const others = names.filter((name) => /\.(gguf|bin|pth?|onnx|safetensors)$/.test(name)).slice(0, 3);
  return others.length === 0 ? '' : ` (found ${others.join(', ')}; weights are read from safetensors)`;
}
