import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import { z } from 'zod';

import { SchemaError, TextEmbedderError, TokenizerFormatError, TokenizerHashError, TokenizerVersionError } from './errors.js';
import type { FittedField } from './fit.js';
import { schemaProblem, schemaShape } from './schema.js';
import type { EventSchema, FieldSpec, TimeSpec } from './schema.js';
import { SPECIAL_NAMES } from './special-ids.js';
import { checkEmbedder, embedderNamed } from './text-embedder.js';
import type { TextEmbedder } from './text-embedder.js';

/** Raised when a release writes files that older ones would read wrongly. */
export const FORMAT_VERSION = 1;
const FORMAT = 'user-llm-event-tokenizer';

type SavedField = FieldSpec extends infer Spec ? (Spec extends { kind: 'text' } ? Omit<Spec, 'embedder'> : Spec) : never;

/** A fitted tokenizer as plain JSON. `hash` is the SHA-256 (hexadecimal) of the JSON text of `{ version, schema, fields }`. */
export interface TokenizerJson {
  format: typeof FORMAT;
  version: number;
  hash: string;
  schema: { user: string; time?: TimeSpec; fields: Record<string, SavedField> };
  fields: Record<string, FittedField>;
}

const finite = z.number();
const values = z
  .array(z.string())
  .refine((list) => new Set(list).size === list.length, 'a value stands in the vocabulary twice')
  .refine((list) => !list.some((value) => SPECIAL_NAMES.includes(value)), 'the name of a special id stands in the vocabulary');
const fileShape = z.strictObject({
  format: z.literal(FORMAT),
  version: z.number(),
  hash: z.string(),
  schema: schemaShape,
  fields: z.record(
    z.string(),
    z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.enum(['categorical', 'categories']), values }),
      z.strictObject({
        kind: z.literal('number'),
        bounds: z.array(finite).refine((list) => list.every((bound, i) => i === 0 || bound > list[i - 1]), 'bounds must ascend'),
        mean: finite,
        deviation: finite.positive(),
        rankError: finite.min(0),
      }),
      z.strictObject({ kind: z.literal('text') }),
    ]),
  ),
});

/** The content in one fixed key order; the order of the fields is kept, since models lay their inputs out by it. */
function content(
  schema: EventSchema,
  fitted: Readonly<Record<string, FittedField>>,
): Pick<TokenizerJson, 'version' | 'schema' | 'fields'> {
  const { time } = schema;
  const fields: Record<string, SavedField> = {};
  const learned: Record<string, FittedField> = {};
  for (const [name, spec] of Object.entries(schema.fields)) {
    const found = fitted[name];
    switch (spec.kind) {
      case 'categorical':
        fields[name] = { kind: spec.kind, column: spec.column, item: spec.item };
        break;
      case 'categories':
        fields[name] = { kind: spec.kind, column: spec.column, separator: spec.separator };
        break;
      case 'number':
        fields[name] = { kind: spec.kind, column: spec.column, buckets: spec.buckets };
        break;
      case 'text':
        fields[name] = { kind: spec.kind, column: spec.column, embedderName: spec.embedderName, width: spec.width };
        break;
    }
    switch (found.kind) {
      case 'categorical':
      case 'categories':
        learned[name] = { kind: found.kind, values: found.values };
        break;
      case 'number': {
        const { kind, bounds, mean, deviation, rankError } = found;
        learned[name] = { kind, bounds, mean, deviation, rankError };
        break;
      }
      case 'text':
        learned[name] = { kind: found.kind };
        break;
    }
  }
  return {
    version: FORMAT_VERSION,
    schema: {
      user: schema.user,
      ...(time && {
        time: {
          kind: time.kind,
          column: time.column,
          unit: time.unit,
          utcOffsetMinutes: time.utcOffsetMinutes,
          gapBuckets: time.gapBuckets,
        },
      }),
      fields,
    },
    fields: learned,
  };
}

export function contentHash(schema: EventSchema, fitted: Readonly<Record<string, FittedField>>): string {
  return bytesToHex(sha256(utf8ToBytes(JSON.stringify(content(schema, fitted)))));
}

export function toTokenizerJson(schema: EventSchema, fitted: Readonly<Record<string, FittedField>>, hash: string): TokenizerJson {
  const { version, ...rest } = content(schema, fitted);
  return { format: FORMAT, version, hash, ...rest };
}

/** Checks a saved tokenizer and gives its text fields their functions. `source` names it in errors. */
export function parseTokenizer(
  saved: unknown,
  embedders: Readonly<Record<string, TextEmbedder>>,
  source: string,
): { schema: EventSchema; fitted: Record<string, FittedField>; hash: string } {
  const head = z.object({ format: z.literal(FORMAT), version: z.number().int().min(1) }).safeParse(saved);
  if (!head.success) throw new TokenizerFormatError(source, `it does not say "format": "${FORMAT}" with a version`);
  if (head.data.version > FORMAT_VERSION) throw new TokenizerVersionError(source, head.data.version, FORMAT_VERSION);
  const parsed = fileShape.safeParse(saved);
  if (!parsed.success) {
    const { path: place, message } = parsed.error.issues[0];
    throw new TokenizerFormatError(source, `${place.join('.') || 'the whole'}: ${message}`);
  }
  const { schema, fields: fitted, hash } = parsed.data;
  const names = Object.keys(schema.fields);
  const problem =
    schemaProblem(schema)?.problem ??
    (names.join('\n') === Object.keys(fitted).join('\n') && names.every((name) => schema.fields[name].kind === fitted[name].kind)
      ? undefined
      : 'the schema and the fitted fields are not the same fields');
  if (problem !== undefined) throw new TokenizerFormatError(source, problem);
  const found = contentHash(schema, fitted);
  if (found !== hash) throw new TokenizerHashError(source, hash, found);
  return { schema: withEmbedders(schema, embedders), fitted, hash };
}

function withEmbedders(schema: EventSchema, embedders: Readonly<Record<string, TextEmbedder>>): EventSchema {
  for (const name of Object.keys(embedders))
    if (schema.fields[name]?.kind !== 'text')
      throw new SchemaError(`embedders.${name}`, `the tokenizer has no text field "${name}".`);
  const fields: Record<string, FieldSpec> = {};
  for (const [name, spec] of Object.entries(schema.fields)) {
    if (spec.kind !== 'text') {
      fields[name] = spec;
      continue;
    }
    const embedder = embedders[name] ?? embedderNamed(spec.embedderName, spec.width);
    if (embedder !== undefined && (embedder.name !== spec.embedderName || embedder.width !== spec.width))
      throw new TextEmbedderError(
        name,
        `it was fitted with "${spec.embedderName}" of width ${spec.width}, and "${embedder.name}" of width ${embedder.width} was given. ` +
          'Give the one it was fitted with, or fit again.',
      );
    if (embedder) checkEmbedder(embedder);
    fields[name] = { ...spec, embedder };
  }
  return { ...schema, fields };
}
