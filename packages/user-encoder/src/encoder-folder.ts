import { createHash, randomBytes } from 'node:crypto';
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { EventTokenizer, TokenizerMismatchError } from '@user-llm/event-tokenizer';
import { readSafetensors, syncFolder, writeFileAtomically, writeSafetensors, type Weights } from '@user-llm/onnx-autograd';
import { files, format, manifestText, parseManifest, version, type EncoderManifest } from './encoder-manifest.js';
import { EncoderFormatError, EncoderHashError } from './errors.js';

/** What a folder holds. */
export interface SavedEncoder extends Omit<EncoderManifest, 'onnx'> {
  readonly weights: Weights;
}

/** SHA-256 (hexadecimal) over format, tokenizer, architecture and every weight: equal hashes give equal embeddings. */
export function encoderHash({ tokenizer, config, weights }: Pick<SavedEncoder, 'tokenizer' | 'config' | 'weights'>): string {
  const hash = createHash('sha256').update(JSON.stringify({ format, version, tokenizer, config: ordered(config) }));
  for (const name of [...weights.keys()].sort()) {
    const { shape, data } = weights.get(name)!;
    hash.update(JSON.stringify([name, shape])).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** With keys in one order, whoever made the object. */
const ordered = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(ordered)
    : typeof value === 'object' && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, inner]) => [key, ordered(inner)]),
        )
      : value;

/**
 * Writes the folder: all of it beside its place first, so that on a full disk nothing, or the old encoder, is there; then each file is
 * moved, the manifest last: a folder with one is whole.
 */
export async function writeEncoderFolder(
  folder: string,
  saved: SavedEncoder,
  onnx: Uint8Array,
  tokenizer: Pick<EventTokenizer, 'save'> | undefined,
): Promise<void> {
  const made = await mkdir(folder, { recursive: true });
  const fresh = path.join(folder, `${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  try {
    await writeFiles(fresh, saved, onnx, tokenizer);
    await mkdir(path.join(folder, path.dirname(files.onnx)), { recursive: true });
    await rm(path.join(folder, files.manifest), { force: true });
    const { weights, onnx: graph, tokenizer: words, manifest } = files;
    for (const name of [weights, graph, ...(tokenizer ? [words] : []), manifest])
      await rename(path.join(fresh, name), path.join(folder, name));
    await syncFolder(folder);
    await rm(fresh, { recursive: true });
  } catch (error) {
    await rm(made ?? fresh, { recursive: true, force: true });
    throw error;
  }
}

async function writeFiles(
  folder: string,
  saved: SavedEncoder,
  onnx: Uint8Array,
  tokenizer: Pick<EventTokenizer, 'save'> | undefined,
): Promise<void> {
  await mkdir(path.join(folder, path.dirname(files.onnx)), { recursive: true });
  await writeSafetensors(path.join(folder, files.weights), saved.weights, { format, hash: saved.hash });
  await writeFileAtomically(path.join(folder, files.onnx), [onnx]);
  await tokenizer?.save(path.join(folder, files.tokenizer));
  const { hash, config, training } = saved;
  const text = manifestText({
    hash,
    tokenizer: saved.tokenizer,
    config,
    training,
    onnx: { bytes: onnx.length, sha256: createHash('sha256').update(onnx).digest('hex') },
  });
  await writeFileAtomically(path.join(folder, files.manifest), [Buffer.from(text)]);
}

/** Reads a folder and checks that it is whole and unchanged. */
export async function readEncoderFolder(
  folder: string,
  given: EventTokenizer | undefined,
): Promise<{ saved: SavedEncoder; tokenizer: EventTokenizer | undefined }> {
  const saved = await readSaved(folder);
  const tokenizerFile = path.join(folder, files.tokenizer);
  const tokenizer = given ?? ((await exists(tokenizerFile)) ? await EventTokenizer.load(tokenizerFile) : undefined);
  if (tokenizer && tokenizer.hash !== saved.tokenizer) throw new TokenizerMismatchError(saved.tokenizer, tokenizer.hash);
  return { saved, tokenizer };
}

async function readSaved(folder: string): Promise<SavedEncoder> {
  let text: string;
  try {
    text = await readFile(path.join(folder, files.manifest), 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const absent = code === 'ENOENT' || code === 'ENOTDIR';
    throw new EncoderFormatError(folder, absent ? `there is no ${files.manifest} in it` : `${files.manifest} cannot be read`, {
      cause: error,
    });
  }
  const { hash, tokenizer, config, training } = parseManifest(folder, text);
  const { tensors: weights } = await readSafetensors(path.join(folder, files.weights));
  const saved = { hash, tokenizer, config, weights, training };
  const found = encoderHash(saved);
  if (found !== hash) throw new EncoderHashError(folder, hash, found);
  return saved;
}

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );
