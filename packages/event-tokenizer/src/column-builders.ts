import { BagReader } from './bags.js';
import { TextEmbedderError } from './errors.js';
import type { RawColumn } from './gather.js';
import { Float32List, Int32List } from './growing.js';
import type { RowChecks } from './row-checks.js';
import type { RowBatch } from './row-source.js';
import { FIRST_VALUE_ID, MISSING_ID, UNKNOWN_ID } from './special-ids.js';
import type { TextEmbedder } from './text-embedder.js';
import { categoryText, LARGEST, numberReason, readNumber, show, UNREADABLE } from './values.js';
import type { Vocabulary } from './vocabulary.js';

/** Grows one column, batch by batch, in file order. */
export interface ColumnBuilder {
  /** Reads a batch and flags the rows that it cannot take; every row gets a place. */
  append(batch: RowBatch, checks: RowChecks): void;
  /** Takes the flagged rows of the last batch out again, where there are any. */
  settle(batch: RowBatch, checks: RowChecks): void;
  /** What has to be waited for, of the rows that stayed. */
  embed?(batch: RowBatch, checks: RowChecks): Promise<void>;
  /** The column so far, in file order and without a copy: valid until more is appended. */
  view(): RawColumn;
  /** Empties the column and keeps its room. */
  clear(): void;
}

/** 32-bit FNV-1a over UTF-16 code units, top bit cleared. */
function hash31(value: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < value.length; i++) hash = Math.imul(hash ^ value.charCodeAt(i), 0x01000193);
  return hash & 0x7fffffff;
}

export class CategoricalBuilder implements ColumnBuilder {
  /** For the item, an unknown value holds `~hash` (negative) until events are laid out, so that equal unknown items can be told from others. */
  private readonly ids = new Int32List();
  private start = 0;

  constructor(
    private readonly column: string,
    private readonly vocabulary: Vocabulary,
    private readonly item: boolean,
  ) {}

  append(batch: RowBatch, checks: RowChecks): void {
    const { ids } = this;
    const { lookup } = this.vocabulary;
    const { count } = batch;
    const values = batch.values(this.column);
    this.start = ids.length;
    const data = ids.reserve(count);
    for (let i = 0, at = ids.length; i < count; i++, at++) {
      const value = values[i];
      const id = lookup.get(value);
      data[at] = id !== undefined && id >= FIRST_VALUE_ID ? id : this.unusual(value, i, checks);
    }
    ids.length += count;
  }

  /** Missing, unknown, and known values in a form not met yet. */
  private unusual(value: unknown, i: number, checks: RowChecks): number {
    const id = this.vocabulary.lookup.get(value) ?? this.vocabulary.find(value);
    if (id === undefined) {
      checks.flag(i, this.column, 'malformed', `${show(value)} is not a category`);
      return MISSING_ID;
    }
    if (!this.item) return id;
    if (id === MISSING_ID) checks.flag(i, this.column, 'malformed', 'the item is missing');
    if (id !== UNKNOWN_ID) return id;
    if (checks.policies.unknownItem !== 'map')
      checks.flag(i, this.column, 'unknown-item', `the item ${show(value)} is not in the vocabulary`);
    return ~hash31(categoryText(value) as string);
  }

  settle(_batch: RowBatch, checks: RowChecks): void {
    if (checks.flagged > 0) this.ids.dropFlagged(this.start, checks.flags);
  }

  view(): RawColumn {
    return { kind: 'categorical', ids: this.ids.view() };
  }

  clear(): void {
    this.ids.length = 0;
  }
}

/** Place of the bag that holds the missing id alone. */
const MISSING_BAG = 0;

/** A log repeats few bags: each is held once, and an event says which is its own. */
export class CategoriesBuilder implements ColumnBuilder {
  private readonly bagOf = new Int32List();
  private readonly starts = new Int32List();
  private readonly ids = new Int32List();
  private readonly reader: BagReader<number>;
  private start = 0;

  constructor(
    private readonly column: string,
    separator: string,
    vocabulary: Vocabulary,
  ) {
    const idOf = (element: unknown) => {
      const id = vocabulary.lookup.get(element) ?? vocabulary.find(element);
      return id === MISSING_ID ? -1 : id;
    };
    this.reader = new BagReader(separator, idOf, (ids) => (ids.length === 0 ? MISSING_BAG : this.hold(ids)));
    this.clear();
  }

  append(batch: RowBatch, checks: RowChecks): void {
    const { column, reader, bagOf } = this;
    const { count } = batch;
    const values = batch.values(column);
    this.start = bagOf.length;
    const data = bagOf.reserve(count);
    for (let i = 0, at = this.start; i < count; i++, at++) {
      const bag = reader.read(values[i]);
      if (bag === undefined) checks.flag(i, column, 'malformed', `${show(values[i])} is not a list of categories`);
      data[at] = bag ?? MISSING_BAG;
    }
    bagOf.length += count;
  }

  settle(_batch: RowBatch, checks: RowChecks): void {
    if (checks.flagged > 0) this.bagOf.dropFlagged(this.start, checks.flags);
  }

  view(): RawColumn {
    return { kind: 'bags', bagOf: this.bagOf.view(), starts: this.starts.view(), ids: this.ids.view() };
  }

  /** Forgets the bags too: those that come once would add up. */
  clear(): void {
    this.reader.forget();
    this.bagOf.length = 0;
    this.starts.length = 0;
    this.ids.length = 0;
    this.starts.push(0);
    this.hold([MISSING_ID]);
  }

  /** Holds one more bag. @returns its place */
  private hold(bag: readonly number[]): number {
    const { starts, ids } = this;
    for (let i = 0; i < bag.length; i++) ids.push(bag[i]);
    starts.push(ids.length);
    return starts.length - 2;
  }
}

/** The bucket of a number: how many bounds are not greater. */
export function bucketOf(bounds: Float64Array, value: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (bounds[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class NumberBuilder implements ColumnBuilder {
  private readonly ids = new Int32List();
  private readonly values = new Float32List();
  private start = 0;

  constructor(
    private readonly column: string,
    private readonly bounds: Float64Array,
    private readonly mean: number,
    private readonly deviation: number,
  ) {}

  append(batch: RowBatch, checks: RowChecks): void {
    const { column, bounds, mean } = this;
    const scale = 1 / this.deviation;
    const { count } = batch;
    const raw = batch.values(column);
    this.start = this.ids.length;
    const ids = this.ids.reserve(count);
    const values = this.values.reserve(count);
    for (let i = 0, at = this.start; i < count; i++, at++) {
      const value = readNumber(raw[i]);
      if (value === UNREADABLE) checks.flag(i, column, 'malformed', numberReason(raw[i]));
      const present = value === value;
      ids[at] = present ? FIRST_VALUE_ID + bucketOf(bounds, value) : MISSING_ID;
      const scalar = present ? (value - mean) * scale : 0;
      // Far outside what was fitted a scalar may leave the range of float32; an infinite one would poison a model.
      values[at] = scalar > LARGEST ? LARGEST : scalar < -LARGEST ? -LARGEST : scalar;
    }
    this.ids.length += count;
    this.values.length += count;
  }

  settle(_batch: RowBatch, checks: RowChecks): void {
    if (checks.flagged === 0) return;
    this.ids.dropFlagged(this.start, checks.flags);
    this.values.dropFlagged(this.start, checks.flags);
  }

  view(): RawColumn {
    return { kind: 'number', ids: this.ids.view(), values: this.values.view() };
  }

  clear(): void {
    this.ids.length = 0;
    this.values.length = 0;
  }
}

/** Most texts in one call of an embedder that does not say. */
const TEXTS_PER_CALL = 1024;

export class TextBuilder implements ColumnBuilder {
  private readonly vectors = new Float32List();

  constructor(
    private readonly field: string,
    private readonly column: string,
    private readonly embedder: TextEmbedder,
  ) {}

  append(batch: RowBatch, checks: RowChecks): void {
    const values = batch.values(this.column);
    for (let i = 0; i < batch.count; i++) {
      const value = values[i];
      if (value === undefined || value === null || typeof value === 'string') continue;
      if (categoryText(value) === undefined && !Number.isNaN(value))
        checks.flag(i, this.column, 'malformed', `${show(value)} is not a text`);
    }
  }

  settle(): void {}

  /** Embeds the texts of the rows that stayed; a row without a text keeps the zero vector. */
  async embed(batch: RowBatch, { flags }: RowChecks): Promise<void> {
    const { vectors, embedder, column } = this;
    const { count } = batch;
    const values = batch.values(column);
    const { width } = embedder;
    const texts: string[] = [];
    const places: number[] = [];
    let at = vectors.length;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const value = categoryText(values[i]);
      if (value !== undefined && value !== '') {
        texts.push(value);
        places.push(at);
      }
      at += width;
    }
    const data = vectors.reserve(at - vectors.length);
    data.fill(0, vectors.length, at);
    vectors.length = at;
    const most = embedder.batchSize ?? TEXTS_PER_CALL;
    for (let from = 0; from < texts.length; from += most) {
      const part = texts.slice(from, from + most);
      const found = await embedder.embed(part);
      if (found.length !== part.length)
        throw new TextEmbedderError(
          this.field,
          `"${embedder.name}" gave ${found.length} vectors for ${part.length} texts; it must give one each.`,
        );
      for (let k = 0; k < part.length; k++) {
        const vector = found[k];
        if (vector.length !== width)
          throw new TextEmbedderError(
            this.field,
            `"${embedder.name}" gave a vector of ${vector.length} numbers; it says its width is ${width}.`,
          );
        data.set(vector, places[from + k]);
      }
    }
  }

  view(): RawColumn {
    return { kind: 'text', width: this.embedder.width, vectors: this.vectors.view() };
  }

  clear(): void {
    this.vectors.length = 0;
  }
}
