import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { syncFolder } from '@user-llm/onnx-autograd';
import { TextTokenizer } from '../text/text-tokenizer.js';
import type { TokenizerFiles } from '../text/byte-level-bpe.js';
import { toHuggingFaceConfig } from './decoder-config.js';
import type { DecoderConfig } from './decoder-config.js';
import { fileSource } from './file-range.js';
import type { FileSource } from './file-range.js';
import { checkTokenizerFits, readDecoderConfig } from './hugging-face.js';
import { ModelFolderError } from './model-folder-error.js';

const manifestName = 'user_llm.json';
const modelName = 'onnx/model.onnx';
const formatVersion = 1;

/** A contextual model as it lies in a folder. `model` and `user` are whole ONNX files. */
export interface ContextualModel {
  readonly config: DecoderConfig;
  /** Left out for a model that takes and gives token ids alone. */
  readonly tokenizer?: TokenizerFiles;
  /** The decoder that reads packed user keys and values: `onnx/model.onnx`. */
  readonly model: Uint8Array;
  /** From a user's embedding `[B, K, D]` to the packed keys and values of every cross-attention layer: `onnx/user.onnx`. */
  readonly user?: Uint8Array;
  /** What `user_llm.json` says besides: adapter kind, layers, K, D, encoder hash, base model, training record. JSON values. */
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Defaults for `generate()`, beside the special tokens, which are filled in. */
  readonly generation?: Readonly<Record<string, unknown>>;
  /** More files by their path inside the folder, such as weights to go on training from; in pieces where they may be large. */
  readonly extra?: Readonly<Record<string, FileContent>>;
}

/** What a file is to hold, or pieces of it one after the other. */
export type FileContent = Uint8Array | Iterable<Uint8Array>;

interface FileRecord {
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Writes a contextual model as a folder that transformers.js opens with `AutoModelForCausalLM` and `AutoTokenizer`. The folder is
 * written beside its place and renamed into it: after a failure nothing, or the old model, is there. A folder that is not empty and not
 * a model written by this function is never replaced.
 */
export async function writeContextualFolder(folder: string, model: ContextualModel): Promise<void> {
  const place = path.resolve(folder);
  const state = await inspect(place);
  if (state === 'other') {
    const message = `${folder} is not empty and holds no ${manifestName}, so it is not replaced. Give a new folder, or empty this one.`;
    throw new ModelFolderError('unwritable', folder, message);
  }
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const fresh = `${place}.${suffix}.tmp`;
  try {
    await writeFiles(fresh, contents(model), { format: formatVersion, ...model.manifest });
    if (state === 'empty') await rmdir(place);
    if (state === 'model') {
      const old = `${place}.${suffix}.old`;
      await rename(place, old);
      try {
        await rename(fresh, place);
      } catch (error) {
        await rename(old, place);
        throw error;
      }
      await rm(old, { recursive: true, force: true });
    } else {
      await rename(fresh, place);
    }
    await syncFolder(path.dirname(place));
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw new ModelFolderError(
      'unwritable',
      folder,
      `${folder} could not be written (${(error as Error).message}). No partial model was left.`,
      {
        cause: error,
      },
    );
  }
}

/** What `readContextualFolder` gives back; `files` holds every file's size and hash as they were checked. */
export interface StoredContextualModel {
  readonly folder: string;
  readonly config: DecoderConfig;
  readonly tokenizer: TextTokenizer;
  readonly model: Uint8Array;
  /** Where `model` was read from. */
  readonly source: FileSource;
  readonly user?: Uint8Array;
  readonly manifest: Readonly<Record<string, unknown>>;
  readonly files: Readonly<Record<string, FileRecord>>;
}

/** Reads a folder that `writeContextualFolder` wrote. The ONNX files must have the hashes that were recorded when they were written. */
export async function readContextualFolder(folder: string): Promise<StoredContextualModel> {
  const { files, ...manifest } = await readManifest(folder);
  const config = await readDecoderConfig(folder);
  if (!Object.hasOwn(files, modelName)) throw damaged(folder, modelName, 'is not recorded in user_llm.json');
  const model = await readChecked(folder, modelName, files);
  const source = fileSource(path.join(folder, modelName));
  const user = await readIfRecorded(folder, 'onnx/user.onnx', files);
  // One that was put beside a model that came without is used too; one that was recorded has to be there.
  const isRecorded = Object.hasOwn(files, 'tokenizer.json');
  const tokenizer = await (isRecorded ? TextTokenizer.load(folder) : TextTokenizer.loadIfPresent(folder, config));
  if (!isRecorded) checkTokenizerFits(folder, tokenizer, config);
  return { folder, config, tokenizer, model, source, user, manifest, files };
}

/** The bytes of a folder's graph once more; a `ModelFolderError` where the folder holds another one since it was read. */
export async function readRecordedModel(folder: string, files: Readonly<Record<string, FileRecord>>): Promise<Uint8Array> {
  const changed = (cause?: unknown) => {
    const message = `${path.join(folder, modelName)} is not the file that was opened any more: the model was moved or replaced. Open it again.`;
    return new ModelFolderError('changed', folder, message, { file: modelName, cause });
  };
  const bytes = await readFile(path.join(folder, modelName)).catch((error: unknown) => {
    throw changed(error);
  });
  if (hash(bytes) !== files[modelName].sha256) throw changed();
  return bytes;
}

/** The bytes of one recorded file of a contextual folder (see `ContextualModel.extra`), checked against its hash. */
export async function readContextualFile(folder: string, name: string): Promise<Uint8Array | undefined> {
  return readIfRecorded(folder, name, (await readManifest(folder)).files);
}

async function readManifest(folder: string): Promise<Record<string, unknown> & { files: Record<string, FileRecord> }> {
  let manifest: unknown;
  try {
    manifest = JSON.parse(await readFile(path.join(folder, manifestName), 'utf8'));
  } catch (error) {
    throw await notReadable(folder, error as NodeJS.ErrnoException);
  }
  if (typeof manifest !== 'object' || manifest === null) throw damaged(folder, manifestName, 'is not a JSON object');
  const { format, files, ...rest } = manifest as Record<string, unknown>;
  if (format !== formatVersion) {
    const message = `${path.join(folder, manifestName)} has format ${JSON.stringify(format)}; this version reads format ${formatVersion}.`;
    throw new ModelFolderError('unsupported', folder, message, { file: manifestName });
  }
  if (typeof files !== 'object' || files === null) throw damaged(folder, manifestName, 'records no files');
  return { ...rest, files: files as Record<string, FileRecord> };
}

/** Why a place gave no manifest: it is not there, it is a model of another kind, or its manifest cannot be read. */
async function notReadable(folder: string, cause: NodeJS.ErrnoException): Promise<ModelFolderError> {
  const found = await stat(folder).catch(() => undefined);
  const known = 'Give a folder that `save` wrote, or owner/model of a hub that holds one.';
  if (found === undefined)
    return new ModelFolderError('no-folder', folder, `There is no such folder: ${folder}. ${known}`, { cause });
  if (found.isDirectory() && cause.code !== 'ENOENT')
    return damaged(folder, manifestName, `could not be read (${cause.message})`, cause);
  const message =
    `${folder} is not what \`save\` wrote: there is no ${manifestName} in it. \`open\` and \`openInWorkers\` read such folders alone; ` +
    'for another model use `load(...)` and `serve()`, or `save` it first.';
  return new ModelFolderError('no-config', folder, message, { file: manifestName, cause });
}

const readIfRecorded = async (folder: string, name: string, files: Readonly<Record<string, FileRecord>>) =>
  Object.hasOwn(files, name) ? readChecked(folder, name, files) : undefined;

async function readChecked(folder: string, name: string, files: Readonly<Record<string, FileRecord>>): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path.join(folder, ...name.split('/')));
  } catch (error) {
    throw damaged(folder, name, `could not be read (${(error as Error).message})`, error);
  }
  if (hash(bytes) !== files[name].sha256) throw damaged(folder, name, 'is not the file that was written: its hash differs');
  return bytes;
}

function damaged(folder: string, file: string, what: string, cause?: unknown): ModelFolderError {
  return new ModelFolderError('damaged', folder, `${path.join(folder, file)} ${what}. Copy or save the model again.`, {
    file,
    cause,
  });
}

const json = (value: unknown) => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);

function contents(model: ContextualModel): Map<string, FileContent> {
  const { config } = model;
  const huggingFace = toHuggingFaceConfig(config);
  const { bos_token_id, eos_token_id, pad_token_id } = huggingFace;
  const files = new Map<string, FileContent>([
    ['config.json', json(huggingFace)],
    ['generation_config.json', json({ bos_token_id, eos_token_id, pad_token_id, ...model.generation })],
    [modelName, model.model],
  ]);
  if (model.user !== undefined) files.set('onnx/user.onnx', model.user);
  for (const [name, value] of Object.entries(model.tokenizer ?? {})) if (value !== undefined) files.set(name, json(value));
  for (const [name, bytes] of Object.entries(model.extra ?? {})) {
    if (
      files.has(name) ||
      name === manifestName ||
      name.split('/').some((part) => part === '' || part === '.' || part === '..')
    ) {
      throw new Error(`an extra file cannot be called ${JSON.stringify(name)}`);
    }
    files.set(name, bytes);
  }
  return files;
}

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Writes files, and last the manifest, which records them as they were written. */
async function writeFiles(
  folder: string,
  files: ReadonlyMap<string, FileContent>,
  manifest: Readonly<Record<string, unknown>>,
): Promise<void> {
  const folders = new Set([folder]);
  const records: Record<string, FileRecord> = {};
  const write = async (name: string, content: FileContent) => {
    const file = path.join(folder, ...name.split('/'));
    const parent = path.dirname(file);
    await mkdir(parent, { recursive: true });
    folders.add(parent);
    records[name] = await writeRecorded(file, content);
  };
  for (const [name, content] of files) await write(name, content);
  await write(manifestName, json({ ...manifest, files: { ...records } }));
  for (const each of folders) await syncFolder(each);
}

/** Bytes that are hashed and written at once: a hash takes less than 2 GiB. */
const pieceBytes = 1 << 26;

async function writeRecorded(file: string, content: FileContent): Promise<FileRecord> {
  const sum = createHash('sha256');
  let bytes = 0;
  function* pieces(): Generator<Uint8Array> {
    for (const part of ArrayBuffer.isView(content) ? [content] : content)
      for (let from = 0; from < part.byteLength; from += pieceBytes) {
        const piece = part.subarray(from, from + pieceBytes);
        sum.update(piece);
        bytes += piece.byteLength;
        yield piece;
      }
  }
  const handle = await open(file, 'wx');
  try {
    await writeFile(handle, pieces());
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { bytes, sha256: sum.digest('hex') };
}

async function inspect(folder: string): Promise<'none' | 'empty' | 'model' | 'other'> {
  const found = await stat(folder).catch(() => undefined);
  if (found === undefined) return 'none';
  if (!found.isDirectory()) return 'other';
  const names = await readdir(folder);
  if (names.length === 0) return 'empty';
  return names.includes(manifestName) ? 'model' : 'other';
}
