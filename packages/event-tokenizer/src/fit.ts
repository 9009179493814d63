import { BagReader } from './bags.js';
import { checkOptions } from './check-options.js';
import { EmptyLogError, EmptyVocabularyError, MissingColumnError, SchemaError } from './errors.js';
import { QuantileSketch } from './quantile-sketch.js';
import { resolvePolicies, RowChecks } from './row-checks.js';
import { BATCH_ROWS, forEachBatch } from './row-source.js';
import type { RowBatch, Rows } from './row-source.js';
import type { EventSchema, FieldSpec } from './schema.js';
import { categoryText, numberReason, readNumber, readTime, show, timeReason, UNREADABLE } from './values.js';
import { MISSING_PLACE, UNREADABLE_PLACE, VocabularyCounter } from './vocabulary.js';

/** What fitting learned about one field. */
export type FittedField =
  | { kind: 'categorical' | 'categories'; values: string[] }
  | { kind: 'number'; bounds: number[]; mean: number; deviation: number; rankError: number }
  | { kind: 'text' };

/** How far a run over rows has come. */
export interface RowProgress {
  rows: number;
  rejected: number;
}

export interface FitOptions {
  /** Values seen in fewer rows become unknown; for all fields with a vocabulary, or by field name. Default 1. */
  minCount?: number | Readonly<Record<string, number>>;
  /** Most values that a vocabulary keeps, special ids not counted; for all fields, or by field name. Default: no limit. */
  maxSize?: number | Readonly<Record<string, number>>;
  /** Throw on the first malformed row instead of leaving it out. */
  strict?: boolean;
  signal?: AbortSignal;
  /** Called after every batch of rows. */
  onProgress?: (progress: RowProgress) => void;
}

/** Learns one field. `stage` checks and reads a batch, `commit` counts its rows that no field refused. */
interface FieldFit {
  seen: boolean;
  stage(batch: RowBatch, checks: RowChecks): void;
  commit(count: number, flags: Uint8Array): void;
  finish(minCount: number, maxSize: number): FittedField;
}

class CategoricalFit implements FieldFit {
  seen = false;
  private readonly counter = new VocabularyCounter();
  private readonly places = new Int32Array(BATCH_ROWS);

  constructor(
    private readonly field: string,
    private readonly column: string,
    private readonly item: boolean,
  ) {}

  stage(batch: RowBatch, checks: RowChecks): void {
    const { column, places, counter } = this;
    const { lookup } = counter;
    const { count } = batch;
    const values = batch.values(column);
    for (let i = 0; i < count; i++) {
      const value = values[i];
      const known = lookup.get(value);
      const place = known !== undefined ? known : counter.add(value);
      places[i] = place;
      if (place < 0) {
        if (place === UNREADABLE_PLACE) checks.flag(i, column, 'malformed', `${show(value)} is not a category`);
        else if (this.item && place === MISSING_PLACE) checks.flag(i, column, 'malformed', 'the item is missing');
      }
    }
  }

  commit(count: number, flags: Uint8Array): void {
    const { places } = this;
    const counts = this.counter.counts.data;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0 || places[i] < 0) continue;
      counts[places[i]]++;
      this.seen = true;
    }
  }

  finish(minCount: number, maxSize: number): FittedField {
    const values = this.counter.select(minCount, maxSize);
    if (this.item && values.length === 0) throw new EmptyVocabularyError(this.field, this.counter.values.length, minCount);
    return { kind: 'categorical', values };
  }
}

class CategoriesFit implements FieldFit {
  seen = false;
  private readonly counter = new VocabularyCounter();
  private readonly staged: (readonly number[])[] = [];
  private readonly reader: BagReader<readonly number[]>;

  constructor(
    private readonly column: string,
    separator: string,
  ) {
    const placeOf = (element: unknown) => {
      const place = this.counter.lookup.get(element) ?? this.counter.add(element);
      return place === UNREADABLE_PLACE ? undefined : Math.max(place, -1);
    };
    this.reader = new BagReader(separator, placeOf, (places) => places);
  }

  stage(batch: RowBatch, checks: RowChecks): void {
    const values = batch.values(this.column);
    for (let i = 0; i < batch.count; i++) {
      const value = values[i];
      const places = this.reader.read(value);
      if (places === undefined) checks.flag(i, this.column, 'malformed', `${show(value)} is not a list of categories`);
      this.staged[i] = places ?? [];
    }
  }

  commit(count: number, flags: Uint8Array): void {
    const counts = this.counter.counts.data;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const places = this.staged[i];
      for (let k = 0; k < places.length; k++) {
        counts[places[k]]++;
        this.seen = true;
      }
    }
  }

  finish(minCount: number, maxSize: number): FittedField {
    return { kind: 'categories', values: this.counter.select(minCount, maxSize) };
  }
}

class NumberFit implements FieldFit {
  seen = false;
  private readonly sketch = new QuantileSketch();
  private readonly staged = new Float64Array(BATCH_ROWS);

  constructor(
    private readonly column: string,
    private readonly buckets: number,
  ) {}

  stage(batch: RowBatch, checks: RowChecks): void {
    const { column, staged } = this;
    const values = batch.values(column);
    for (let i = 0; i < batch.count; i++) {
      const value = values[i];
      const read = readNumber(value);
      staged[i] = read;
      if (read === UNREADABLE) checks.flag(i, column, 'malformed', numberReason(value));
    }
  }

  commit(count: number, flags: Uint8Array): void {
    const { staged, sketch } = this;
    for (let i = 0; i < count; i++) {
      const value = staged[i];
      if (flags[i] === 0 && value === value) sketch.add(value);
    }
    this.seen = sketch.count > 0;
  }

  finish(): FittedField {
    const { mean, deviation, count, rankError } = this.sketch;
    return {
      kind: 'number',
      bounds: this.sketch.bounds(this.buckets),
      mean,
      deviation: deviation > 0 ? deviation : 1,
      rankError: count > 0 ? rankError / count : 0,
    };
  }
}

class TextFit implements FieldFit {
  seen = false;

  constructor(private readonly column: string) {}

  stage(batch: RowBatch, checks: RowChecks): void {
    const values = batch.values(this.column);
    for (let i = 0; i < batch.count; i++) {
      const value = values[i];
      if (value === undefined || value === null) continue;
      if (categoryText(value) === undefined && !Number.isNaN(value))
        checks.flag(i, this.column, 'malformed', `${show(value)} is not a text`);
      else this.seen = true;
    }
  }

  commit(): void {}

  finish(): FittedField {
    return { kind: 'text' };
  }
}

function fieldFit(name: string, spec: FieldSpec): FieldFit {
  switch (spec.kind) {
    case 'categorical':
      return new CategoricalFit(name, spec.column, spec.item);
    case 'categories':
      return new CategoriesFit(spec.column, spec.separator);
    case 'number':
      return new NumberFit(spec.column, spec.buckets);
    case 'text':
      return new TextFit(spec.column);
    default:
      throw new Error(`internal: no fit for ${(spec satisfies never as FieldSpec).kind}`);
  }
}

/** Refuses rows without a user; true where the column was seen. */
function checkUsers(batch: RowBatch, column: string, checks: RowChecks): boolean {
  let seen = false;
  const values = batch.values(column);
  for (let i = 0; i < batch.count; i++) {
    const user = values[i];
    if (typeof user === 'string' ? user !== '' : typeof user === 'number' ? Number.isFinite(user) : typeof user === 'bigint')
      seen = true;
    else checks.flag(i, column, 'malformed', userReason(user));
  }
  return seen;
}

/** Why a value cannot name a user. */
export function userReason(user: unknown): string {
  return user === undefined || user === null || user === '' || Number.isNaN(user)
    ? 'the user is missing'
    : `${show(user)} cannot name a user`;
}

function limit(option: FitOptions['minCount'], name: string, path: string, usual: number): number {
  const value = typeof option !== 'object' ? option : Object.hasOwn(option, name) ? option[name] : undefined;
  if (value === undefined) return usual;
  if (!Number.isInteger(value) || value < 1)
    throw new SchemaError(typeof option === 'object' ? `${path}.${name}` : path, `${value} is not a positive whole number.`);
  return value;
}

function checkLimits(schema: EventSchema, option: FitOptions['minCount'], path: string): void {
  if (typeof option !== 'object') return;
  for (const name of Object.keys(option)) {
    const kind = schema.fields[name]?.kind;
    if (kind !== 'categorical' && kind !== 'categories')
      throw new SchemaError(`${path}.${name}`, `the schema has no field "${name}" with a vocabulary.`);
  }
}

const fitOptions = { minCount: true, maxSize: true, strict: true, signal: true, onProgress: true } as const;

/** Reads all rows once and learns every field. Memory grows with the distinct values alone. */
export async function fitFields(schema: EventSchema, source: Rows, options: FitOptions): Promise<Record<string, FittedField>> {
  checkOptions(options, fitOptions);
  const { minCount, maxSize, strict = false, signal, onProgress } = options;
  checkLimits(schema, minCount, 'minCount');
  checkLimits(schema, maxSize, 'maxSize');
  const limits = Object.keys(schema.fields).map((name) => ({
    name,
    minCount: limit(minCount, name, 'minCount', 1),
    maxSize: limit(maxSize, name, 'maxSize', Infinity),
  }));
  const fits = limits.map(({ name }) => fieldFit(name, schema.fields[name]));
  const checks = new RowChecks(resolvePolicies(strict ? { malformed: 'throw' } : {}), 1);
  const { time } = schema;
  let columns = new Set<string>();
  let rows = 0;
  let userSeen = false;
  let timeSeen = false;
  await forEachBatch(
    source,
    (batch) => {
      checks.begin(batch);
      if (rows === 0) columns = batch.names();
      userSeen = checkUsers(batch, schema.user, checks) || userSeen;
      if (time) {
        const values = batch.values(time.column);
        for (let i = 0; i < batch.count; i++) {
          const value = values[i];
          const read = readTime(value, time.unit);
          if (read === UNREADABLE) checks.flag(i, time.column, 'malformed', timeReason(value, time.unit));
          else if (read === read) timeSeen = true;
        }
      }
      for (const fit of fits) fit.stage(batch, checks);
      for (const fit of fits) fit.commit(batch.count, checks.flags);
      checks.end();
      rows += batch.count;
      onProgress?.({ rows, rejected: checks.rejectedCount });
    },
    signal,
  );
  const missing = (field: string, column: string, seen: boolean) => {
    if (rows > 0 && !seen && !columns.has(column)) throw new MissingColumnError(field, column, [...columns]);
  };
  missing('user', schema.user, userSeen);
  if (time) missing('time', time.column, timeSeen);
  limits.forEach(({ name }, at) => missing(name, schema.fields[name].column, fits[at].seen));
  if (rows === checks.rejectedCount) throw new EmptyLogError(rows, checks.rejected[0]);
  return Object.fromEntries(limits.map((field, at) => [field.name, fits[at].finish(field.minCount, field.maxSize)]));
}
