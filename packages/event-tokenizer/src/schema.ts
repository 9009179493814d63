import { z } from 'zod';

import { SchemaError } from './errors.js';
import { checkEmbedder, hashedNgrams } from './text-embedder.js';
import type { TextEmbedder } from './text-embedder.js';

/** How a time is written in the rows. `order` is a rank, not a time: it sorts, and every time feature is missing. */
export type TimeUnit = 's' | 'ms' | 'iso' | 'order';

export interface CategoricalSpec {
  readonly kind: 'categorical';
  readonly column: string;
  /** True for the one field that names the thing the event is about. */
  readonly item: boolean;
}
export interface CategoriesSpec {
  readonly kind: 'categories';
  readonly column: string;
  readonly separator: string;
}
export interface NumberSpec {
  readonly kind: 'number';
  readonly column: string;
  readonly buckets: number;
}
export interface TextSpec {
  readonly kind: 'text';
  readonly column: string;
  /** Absent only in a loaded tokenizer whose own function was not given to `load`. */
  readonly embedder?: TextEmbedder;
  readonly embedderName: string;
  readonly width: number;
}
export interface TimeSpec {
  readonly kind: 'time';
  readonly column: string;
  readonly unit: TimeUnit;
  readonly utcOffsetMinutes: number;
  readonly gapBuckets: number;
}
export type FieldSpec = CategoricalSpec | CategoriesSpec | NumberSpec | TextSpec;

/** Which columns of a row are read, and as what. */
export interface EventSchema {
  readonly user: string;
  readonly time?: TimeSpec;
  readonly fields: Readonly<Record<string, FieldSpec>>;
}

/** The value that the event is about (the film, the product): categorical, required in every row. A schema has exactly one. */
export function item(column: string): CategoricalSpec {
  return { kind: 'categorical', column, item: true };
}

/** One value out of many, such as a device or a country. Numbers and booleans are read as their text. */
export function categorical(column: string): CategoricalSpec {
  return { kind: 'categorical', column, item: false };
}

/** A bag of values, such as genres: an array, or a text split at `separator` (default `|`). Repeats in a bag count once. */
export function categories(column: string, { separator = '|' }: { separator?: string } = {}): CategoriesSpec {
  return { kind: 'categories', column, separator };
}

/** A number: quantile bucket (at most `buckets`, default 10; fewer where there are fewer distinct values) and standardised scalar. */
export function number(column: string, { buckets = 10 }: { buckets?: number } = {}): NumberSpec {
  return { kind: 'number', column, buckets };
}

/** A text, as a vector: of the embedder given, or else of hashed character n-grams (`width` default 64). */
export function text(column: string, { width, embedder }: { width?: number; embedder?: TextEmbedder } = {}): TextSpec {
  if (embedder !== undefined && width !== undefined && embedder.width !== width)
    throw new SchemaError(
      'width',
      `the embedder "${embedder.name}" gives ${embedder.width} numbers, not ${width}. Leave width out.`,
    );
  const chosen = embedder ?? hashedNgrams({ width });
  checkEmbedder(chosen);
  return { kind: 'text', column, embedder: chosen, embedderName: chosen.name, width: chosen.width };
}

/**
 * When the event happened.
 *
 * `unit`: `s` (default) or `ms` since 1970, `iso` (ISO 8601; without an offset it is UTC), or `order` (a rank). Hour and weekday are
 * those of UTC plus `utcOffsetMinutes`. `gapBuckets` (2 to 32, default 32): bucket 0 is a gap below 1 s, bucket b is
 * 2^(b-1) to 2^b s, the last one is open.
 */
export function time(
  column: string,
  { unit = 's', utcOffsetMinutes = 0, gapBuckets = 32 }: { unit?: TimeUnit; utcOffsetMinutes?: number; gapBuckets?: number } = {},
): TimeSpec {
  return { kind: 'time', column, unit, utcOffsetMinutes, gapBuckets };
}

const column = z.string().min(1, 'name a column');
const embedder = z.custom<TextEmbedder>(
  (value) => typeof value === 'object' && value !== null && typeof (value as TextEmbedder).embed === 'function',
  'is not a text embedder: it has no embed(texts) function',
);
const whole = z.number().int();

/** The shape of a schema, of the caller's and of a saved one. */
export const schemaShape = z.strictObject({
  user: column,
  time: z
    .strictObject({
      kind: z.literal('time', 'make it with time(column)'),
      column,
      unit: z.enum(['s', 'ms', 'iso', 'order']),
      utcOffsetMinutes: whole.min(-1440).max(1440),
      gapBuckets: whole.min(2).max(32),
    })
    .optional(),
  fields: z.record(
    z.string().min(1),
    z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('categorical'), column, item: z.boolean() }),
      z.strictObject({ kind: z.literal('categories'), column, separator: z.string().min(1) }),
      z.strictObject({ kind: z.literal('number'), column, buckets: whole.min(1).max(10_000) }),
      z.strictObject({
        kind: z.literal('text'),
        column,
        embedder: embedder.optional(),
        embedderName: z.string().min(1),
        width: whole.min(1).max(65_536),
      }),
    ]),
  ),
});

/** Checks what zod's shape cannot say. Returns the problem, with its place. */
export function schemaProblem(schema: EventSchema): { path: string; problem: string } | undefined {
  const names = Object.keys(schema.fields);
  if (names.includes('time'))
    return { path: 'fields.time', problem: 'the name "time" is kept for the time column. Choose another name.' };
  if (names.includes('__proto__')) return { path: 'fields', problem: 'a field cannot be called "__proto__".' };
  const items = names.filter((name) => (schema.fields[name] as Partial<CategoricalSpec>).item === true);
  if (items.length !== 1)
    return {
      path: 'fields',
      problem:
        items.length === 0
          ? 'no field is the item. Make one with item(column).'
          : `${items.join(' and ')} are all items. Keep item(column) for one and make the others categorical(column).`,
    };
  return undefined;
}

/**
 * Names the columns of an event log and how each is read.
 *
 * @throws SchemaError when something cannot work, with its place in the schema.
 */
export function eventSchema(schema: EventSchema): EventSchema {
  const checked = schemaShape.safeParse(schema);
  if (!checked.success) {
    const { path, message } = checked.error.issues[0];
    throw new SchemaError(path.join('.'), `${message}.`);
  }
  const found = schemaProblem(checked.data);
  if (found) throw new SchemaError(found.path, found.problem);
  return schema;
}
