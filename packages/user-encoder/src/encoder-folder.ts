import { createHash } from 'node:crypto';
import { access, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { EventTokenizer, TokenizerMismatchError } from '@user-llm/event-tokenizer';
import { readSafetensors, writeFileAtomically, writeSafetensors, type Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import type { EncoderConfig } from './config.js';
import { EncoderFormatError, EncoderHashError } from './errors.js';
import type { TrainingRecord } from './training-record.js';
import { lossesShape, validationPointShape } from './training-shapes.js';

const format = 'user-llm-user-encoder';
/** Raised when a release writes files that older ones would read wrongly. */
const version = 1;

const files = {
  manifest: 'encoder.json',
  weights: 'weights.safetensors',
  tokenizer: 'tokenizer.json',
  onnx: 'onnx/encoder.onnx',
} as const;

const size = z.number().int().min(1);
const named = { name: z.string().min(1), width: size };
const configShape = z.strictObject({
  width: size,
  layers: size,
  heads: size,
  context: size,
  userTokens: size,
  resamplerLayers: size,
  dropout: z.number().min(0).lt(1),
  seed: z.number().int(),
  fields: z
    .array(
      z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.enum(['categorical', 'categories', 'number']), ...named, size }),
        z.strictObject({ kind: z.literal('time'), ...named, gap: size, hour: size, weekday: size }),
        z.strictObject({ kind: z.literal('text'), ...named }),
      ]),
    )
    .min(1),
  attention: z
    .union([
      z.literal('bidirectional'),
      z.strictObject({ position: z.enum(['rotary', 'rotary-time', 'relative-time']), window: size.min(2) }),
    ])
    .optional(),
});
const trainingShape = z.object({
  steps: z.number(),
  epochs: z.number(),
  seconds: z.number(),
  eventsPerSecond: z.number(),
  stopped: z.enum(['steps', 'seconds', 'patience']),
  itemHead: z.enum(['item', 'labels', 'none']).default('item'),
  labelTower: z.object({ fields: z.array(z.string()), temperature: z.number().positive() }).optional(),
  losses: lossesShape,
  validation: z.array(validationPointShape),
  best: validationPointShape.nullable(),
  stillImproving: z.boolean(),
});
const manifestShape = z.object({
  format: z.literal(format),
  version: z.number().int(),
  hash: z.string(),
  tokenizer: z.string(),
  config: configShape,
  training: trainingShape.nullable(),
});

/** What a folder holds. */
export interface SavedEncoder {
  readonly hash: string;
  /** Hash of the tokenizer. */
  readonly tokenizer: string;
  readonly config: EncoderConfig;
  readonly weights: Weights;
  readonly training: TrainingRecord | null;
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

/** Writes the folder, the manifest last: a folder with one is whole. */
export async function writeEncoderFolder(
  folder: string,
  saved: SavedEncoder,
  onnx: Uint8Array,
  tokenizer: EventTokenizer | undefined,
): Promise<void> {
  await mkdir(path.join(folder, path.dirname(files.onnx)), { recursive: true });
  await writeSafetensors(path.join(folder, files.weights), saved.weights, { format, hash: saved.hash });
  await writeFileAtomically(path.join(folder, files.onnx), [onnx]);
  await tokenizer?.save(path.join(folder, files.tokenizer));
  const { hash, config, training } = saved;
  const manifest = { format, version, hash, tokenizer: saved.tokenizer, config, training };
  await writeFileAtomically(path.join(folder, files.manifest), [Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)]);
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
  const file = path.join(folder, files.manifest);
  let manifest: unknown;
  try {
    manifest = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new EncoderFormatError(
      folder,
      code === 'ENOENT' || code === 'ENOTDIR' ? `there is no ${files.manifest} in it` : `${files.manifest} cannot be read`,
      {
        cause: error,
      },
    );
  }
  const newer = z.object({ format: z.literal(format), version: z.number().int() }).safeParse(manifest);
  if (newer.success && newer.data.version > version)
    throw new EncoderFormatError(
      folder,
      `it has format version ${newer.data.version}, and this release reads up to ${version}; update @user-llm/user-encoder`,
    );
  const parsed = manifestShape.safeParse(manifest);
  if (!parsed.success) {
    const [{ path: place, message }] = parsed.error.issues;
    throw new EncoderFormatError(folder, `${files.manifest}: ${place.join('.') || 'the whole'}: ${message}`);
  }
  const { hash, tokenizer, config, training } = parsed.data;
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
