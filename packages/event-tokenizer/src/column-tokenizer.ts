import { bucketOf, CategoricalBuilder, CategoriesBuilder, NumberBuilder, TextBuilder } from './column-builders.js';
import type { ColumnBuilder } from './column-builders.js';
import type { EncodedEvents, EventColumns, Row } from './columns.js';
import { decodeRows } from './decode.js';
import { encodeRows } from './encode.js';
import type { EncodeOptions, Encoder } from './collect.js';
import { SchemaError, TextEmbedderError, TokenizerMismatchError, UnknownFieldError } from './errors.js';
import { fitFields } from './fit.js';
import type { FitOptions, FittedField } from './fit.js';
import type { Rows } from './row-source.js';
import { eventSchema } from './schema.js';
import type { EventSchema, TimeUnit } from './schema.js';
import { FIRST_VALUE_ID, MISSING_ID, SPECIAL_NAMES } from './special-ids.js';
import type { TextEmbedder } from './text-embedder.js';
import { HOUR_SIZE, WEEKDAY_SIZE } from './time-features.js';
import { contentHash, parseTokenizer, toTokenizerJson } from './tokenizer-json.js';
import type { TokenizerJson } from './tokenizer-json.js';
import { readNumber, show, UNREADABLE } from './values.js';
import { Vocabulary } from './vocabulary.js';

/** What a model needs to know of a field to read its column. Sizes count ids, the special ones included. */
export type FieldInfo =
  | { readonly kind: 'categorical'; readonly size: number; readonly item: boolean }
  | { readonly kind: 'categories'; readonly size: number }
  | {
      readonly kind: 'number';
      readonly size: number;
      /** Lower bounds of all buckets but the first. */
      readonly bounds: readonly number[];
      readonly mean: number;
      readonly deviation: number;
      /** Share of the fitted rows by which a bound's rank may be off; 0 when it is exact. */
      readonly rankError: number;
    }
  | {
      readonly kind: 'time';
      readonly unit: TimeUnit;
      /** Ids of the gap, the hour and the weekday (Monday first). With the unit `order` all events hold the missing id. */
      readonly gap: number;
      readonly hour: number;
      readonly weekday: number;
    }
  | { readonly kind: 'text'; readonly width: number; readonly embedder: string };

export interface LoadOptions {
  /** The text functions, by field name, of the fields that were not fitted with the default one. */
  embedders?: Readonly<Record<string, TextEmbedder>>;
}

/** Everything that a tokenizer is. */
export interface TokenizerParts {
  readonly schema: EventSchema;
  readonly fitted: Readonly<Record<string, FittedField>>;
  readonly hash: string;
}

/** Learns the parts of a tokenizer; see {@link ColumnTokenizer.fit}. */
export async function fitTokenizer(schema: EventSchema, rows: Rows, options: FitOptions): Promise<TokenizerParts> {
  const checked = eventSchema(schema);
  const fitted = await fitFields(checked, rows, options);
  return { schema: checked, fitted, hash: contentHash(checked, fitted) };
}

/**
 * Turns raw rows into {@link EventColumns}, wherever JavaScript runs: it touches no file. Immutable: `hash` names the schema and
 * everything fitted for ever.
 */
export class ColumnTokenizer {
  /** SHA-256 (hexadecimal) of schema and fitted content. */
  readonly hash: string;
  readonly schema: EventSchema;
  /** Name of the one field that is the item. */
  readonly itemField: string;
  /** By field name, in the schema's order; `time` first where the schema has a time. */
  readonly fields: Readonly<Record<string, FieldInfo>>;
  private readonly fitted: Readonly<Record<string, FittedField>>;
  private readonly vocabularies = new Map<string, Vocabulary>();

  protected constructor({ schema, fitted, hash }: TokenizerParts) {
    this.schema = schema;
    this.fitted = fitted;
    this.hash = hash;
    let itemField = '';
    for (const [name, spec] of Object.entries(schema.fields)) {
      const found = fitted[name];
      if (found.kind === 'categorical' || found.kind === 'categories') this.vocabularies.set(name, new Vocabulary(found.values));
      if (spec.kind === 'categorical' && spec.item) itemField = name;
    }
    this.itemField = itemField;
    this.fields = Object.freeze(this.describe());
  }

  /**
   * Learns vocabularies (the most frequent value first, ties by first appearance) and quantile buckets in one pass over the rows.
   * Malformed rows are left out, as encoding does.
   *
   * @throws EmptyLogError, MissingColumnError, EmptyVocabularyError, SchemaError; RowError with `strict`
   */
  static async fit(schema: EventSchema, rows: Rows, options: FitOptions = {}): Promise<ColumnTokenizer> {
    return new ColumnTokenizer(await fitTokenizer(schema, rows, options));
  }

  /**
   * The tokenizer of what `toJSON` gave, which is what a saved file holds.
   *
   * @throws TokenizerFormatError, TokenizerVersionError (a newer release's file), TokenizerHashError (changed or damaged), TextEmbedderError
   */
  static fromJSON(saved: unknown, { embedders = {} }: LoadOptions = {}): ColumnTokenizer {
    return new ColumnTokenizer(parseTokenizer(saved, embedders, 'The object'));
  }

  /**
   * Rows to columns: grouped by user (in order of first appearance), sorted by time (equal times keep the rows' order).
   * Holds all events in memory; rows are read once and not kept.
   *
   * @throws RowError where a policy (or `strict`) says so; TextEmbedderError; SchemaError for an option that cannot work
   */
  async encode(rows: Rows, options: EncodeOptions = {}): Promise<EncodedEvents> {
    return encodeRows(this.encoder(), rows, options);
  }

  /**
   * Columns back to rows with the schema's column names. Missing values are null, unknown ones the text `[unknown]`, numbers
   * are as exact as float32 is; texts cannot be had back and are left out. Encoding the rows again gives the same
   * ids, except that a number which float32 cannot tell from a bucket's bound may fall into the bucket beside its own.
   *
   * @throws TokenizerMismatchError for events of another tokenizer
   */
  decode(events: EventColumns): Iterable<Row> {
    if (events.tokenizer !== this.hash) throw new TokenizerMismatchError(this.hash, events.tokenizer);
    const { schema, fitted, vocabularies } = this;
    return { [Symbol.iterator]: () => decodeRows(events, schema, fitted, vocabularies) };
  }

  /**
   * The values of a field, index = id, special names first; for a number the buckets' ranges.
   *
   * @throws UnknownFieldError for a field that has none
   */
  vocabulary(field: string): readonly string[] {
    const found = this.vocabularies.get(field);
    if (found) return found.names;
    const number = Object.hasOwn(this.fitted, field) ? this.fitted[field] : undefined;
    if (number?.kind !== 'number') throw this.unknownField(field);
    const { bounds } = number;
    const ranges = Array.from({ length: bounds.length + 1 }, (_, bucket) =>
      bounds.length === 0
        ? 'any'
        : bucket === 0
          ? `< ${bounds[0]}`
          : bucket === bounds.length
            ? `>= ${bounds[bucket - 1]}`
            : `>= ${bounds[bucket - 1]}, < ${bounds[bucket]}`,
    );
    return [...SPECIAL_NAMES, ...ranges];
  }

  /**
   * The id of one value (one category of a bag, the bucket of a number): `UNKNOWN_ID` where the vocabulary lacks it,
   * `MISSING_ID` for undefined, null, NaN and the empty text.
   *
   * @throws UnknownFieldError for a field without ids; SchemaError for a value of the wrong kind
   */
  id(field: string, value: unknown): number {
    const vocabulary = this.vocabularies.get(field);
    let id: number | undefined;
    if (vocabulary) id = vocabulary.lookup.get(value) ?? vocabulary.find(value);
    else {
      const number = Object.hasOwn(this.fitted, field) ? this.fitted[field] : undefined;
      if (number?.kind !== 'number') throw this.unknownField(field);
      const read = readNumber(value);
      if (read !== UNREADABLE)
        id = Number.isNaN(read) ? MISSING_ID : FIRST_VALUE_ID + bucketOf(Float64Array.from(number.bounds), read);
    }
    if (id === undefined) throw new SchemaError(field, `${show(value)} cannot be a value of this field.`);
    return id;
  }

  toJSON(): TokenizerJson {
    return toTokenizerJson(this.schema, this.fitted, this.hash);
  }

  private describe(): Record<string, FieldInfo> {
    const fields: Record<string, FieldInfo> = {};
    const { time } = this.schema;
    if (time)
      fields.time = {
        kind: 'time',
        unit: time.unit,
        gap: FIRST_VALUE_ID + time.gapBuckets,
        hour: HOUR_SIZE,
        weekday: WEEKDAY_SIZE,
      };
    for (const [name, spec] of Object.entries(this.schema.fields)) {
      const found = this.fitted[name];
      if (spec.kind === 'text') fields[name] = { kind: 'text', width: spec.width, embedder: spec.embedderName };
      else if (found.kind === 'number') {
        const { bounds, mean, deviation, rankError } = found;
        fields[name] = {
          kind: 'number',
          size: FIRST_VALUE_ID + bounds.length + 1,
          bounds: Object.freeze([...bounds]),
          mean,
          deviation,
          rankError,
        };
      } else if (found.kind !== 'text') {
        const size = FIRST_VALUE_ID + found.values.length;
        fields[name] =
          spec.kind === 'categorical' ? { kind: 'categorical', size, item: spec.item } : { kind: 'categories', size };
      }
    }
    return fields;
  }

  protected encoder(): Encoder {
    return { hash: this.hash, schema: this.schema, itemField: this.itemField, builders: () => this.builders() };
  }

  private builders(): Record<string, ColumnBuilder> {
    const builders: Record<string, ColumnBuilder> = {};
    for (const [name, spec] of Object.entries(this.schema.fields)) {
      const found = this.fitted[name];
      const vocabulary = this.vocabularies.get(name);
      if (spec.kind === 'text') {
        if (spec.embedder === undefined)
          throw new TextEmbedderError(
            name,
            `it was fitted with "${spec.embedderName}", which was not given when the tokenizer was loaded. ` +
              `Load it with { embedders: { ${JSON.stringify(name)}: embedder } }.`,
          );
        builders[name] = new TextBuilder(name, spec.column, spec.embedder);
      } else if (found.kind === 'number') {
        builders[name] = new NumberBuilder(spec.column, Float64Array.from(found.bounds), found.mean, found.deviation);
      } else if (vocabulary) {
        builders[name] =
          spec.kind === 'categories'
            ? new CategoriesBuilder(spec.column, spec.separator, vocabulary)
            : new CategoricalBuilder(spec.column, vocabulary, name === this.itemField);
      }
    }
    return builders;
  }

  private unknownField(field: string): UnknownFieldError {
    const known = Object.keys(this.schema.fields).filter((name) => this.schema.fields[name].kind !== 'text');
    return new UnknownFieldError(field, known);
  }
}
