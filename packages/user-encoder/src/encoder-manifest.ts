import { z } from 'zod';
import type { EncoderConfig } from './config.js';
import { EncoderFormatError } from './errors.js';
import type { TrainingRecord } from './training-record.js';
import { lossesShape, validationPointShape } from './training-shapes.js';

export const format = 'user-llm-user-encoder';
/** Raised when a release writes files that older ones would read wrongly. */
export const version = 1;

/** Names of the files of a saved encoder, in its folder. */
export const files = {
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
  tokenStart: z.literal('last-and-mean').optional(),
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
const repeatsShape = z.enum(['allowed', 'never']).optional();
const trainingShape = z.object({
  steps: z.number(),
  epochs: z.number(),
  seconds: z.number(),
  eventsPerSecond: z.number(),
  stopped: z.enum(['steps', 'seconds', 'patience']),
  itemHead: z.enum(['item', 'labels', 'none']).default('item'),
  labelTower: z.object({ fields: z.array(z.string()), temperature: z.number().positive(), repeats: repeatsShape }).optional(),
  repeats: repeatsShape,
  itemVectors: z.enum(['co-occurrence', 'as-they-are']).optional(),
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
  // A folder may be without it.
  onnx: z.object({ bytes: size, sha256: z.string() }).optional(),
});

/** What `encoder.json` says. */
export interface EncoderManifest {
  readonly hash: string;
  /** Hash of the tokenizer. */
  readonly tokenizer: string;
  readonly config: EncoderConfig;
  readonly training: TrainingRecord | null;
  /** Of `onnx/encoder.onnx`; SHA-256 in hexadecimal. A folder may be without it. */
  readonly onnx?: { readonly bytes: number; readonly sha256: string } | undefined;
}

/** The text of the file. */
export const manifestText = ({ hash, tokenizer, config, training, onnx }: EncoderManifest): string =>
  `${JSON.stringify({ format, version, hash, tokenizer, config, training, onnx }, null, 1)}\n`;

/**
 * Checks what the file holds.
 *
 * @param source names the folder in errors
 * @throws EncoderFormatError
 */
export function parseManifest(source: string, text: string): EncoderManifest {
  let manifest: unknown;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw new EncoderFormatError(source, `${files.manifest} cannot be read`, { cause: error });
  }
  const newer = z.object({ format: z.literal(format), version: z.number().int() }).safeParse(manifest);
  if (newer.success && newer.data.version > version)
    throw new EncoderFormatError(
      source,
      `it has format version ${newer.data.version}, and this release reads up to ${version}; update @user-llm/user-encoder`,
    );
  const parsed = manifestShape.safeParse(manifest);
  if (!parsed.success) {
    const [{ path: place, message }] = parsed.error.issues;
    throw new EncoderFormatError(source, `${files.manifest}: ${place.join('.') || 'the whole'}: ${message}`);
  }
  return parsed.data;
}
