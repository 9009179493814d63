import { BagReader } from './bags.js';
import type { Column } from './columns.js';
import { TextEmbedderError } from './errors.js';
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
  settle(batch: RowBatch, checks: RowChecks): void | Promise<void>;
  /** The column in the given order (place in the result -> place in the file); undefined for file order. */
  finish(order: Int32Array | undefined): Column;
}

export function gatherInt32(list: Int32List, order: Int32Array | undefined): Int32Array {
  if (order === undefined) return list.data.slice(0, list.length);
  const { data } = list;
  const out = new Int32Array(order.length);
  for (let i = 0; i < out.length; i++) out[i] = data[order[i]];
  return out;
}

/** 32-bit FNV-1a over UTF-16 code units, top bit cleared. */
function hash31(value: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < value.length; i++) hash = Math.imul(hash ^ value.charCodeAt(i), 0x01000193);
  return hash & 0x7fffffff;
}

export class CategoricalBuilder implements ColumnBuilder {
  /** For the item, an unknown value holds `~hash` (negative) until `finish`, so that equal unknown items can be told from others. */
  readonly ids = new Int32List();
  private start = 0;

  constructor(
    private readonly column: string,
    private readonly vocabulary: Vocabulary,
    private readonly item: boolean,
  ) {}

  append({ rows, count }: RowBatch, checks: RowChecks): void {
    const { column, ids } = this;
    const { lookup } = this.vocabulary;
    this.start = ids.length;
    const data = ids.reserve(count);
    for (let i = 0, at = ids.length; i < count; i++, at++) {
      const value = rows[i][column];
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

  finish(order: Int32Array | undefined): Column {
    const ids = gatherInt32(this.ids, order);
    if (this.item) for (let i = 0; i < ids.length; i++) if (ids[i] < 0) ids[i] = UNKNOWN_ID;
    return { kind: 'categorical', ids };
  }
}

const MISSING_BAG: readonly number[] = [MISSING_ID];

export class CategoriesBuilder implements ColumnBuilder {
  private readonly ends = new Int32List();
  private readonly ids = new Int32List();
  private readonly staged: (readonly number[])[] = [];
  private readonly reader: BagReader;

  constructor(
    private readonly column: string,
    separator: string,
    vocabulary: Vocabulary,
  ) {
    this.reader = new BagReader(separator, (element) => {
      const id = vocabulary.lookup.get(element) ?? vocabulary.find(element);
      return id === MISSING_ID ? -1 : id;
    });
  }

  append({ rows, count }: RowBatch, checks: RowChecks): void {
    const { column, staged, reader } = this;
    for (let i = 0; i < count; i++) {
      const value = rows[i][column];
      const ids = reader.numbers(value);
      if (ids === undefined) checks.flag(i, column, 'malformed', `${show(value)} is not a list of categories`);
      staged[i] = ids === undefined || ids.length === 0 ? MISSING_BAG : ids;
    }
  }

  settle({ count }: RowBatch, checks: RowChecks): void {
    const { ends, ids, staged } = this;
    const { flags } = checks;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const bag = staged[i];
      const data = ids.reserve(bag.length);
      for (let k = 0; k < bag.length; k++) data[ids.length + k] = bag[k];
      ids.length += bag.length;
      ends.push(ids.length);
    }
  }

  finish(order: Int32Array | undefined): Column {
    const ends = this.ends.data;
    const source = this.ids.data;
    const events = order ? order.length : this.ends.length;
    const offsets = new Int32Array(events + 1);
    if (order === undefined) {
      offsets.set(ends.subarray(0, events), 1);
      return { kind: 'categories', offsets, ids: source.slice(0, this.ids.length) };
    }
    for (let i = 0; i < events; i++) {
      const e = order[i];
      offsets[i + 1] = offsets[i] + ends[e] - (e === 0 ? 0 : ends[e - 1]);
    }
    const ids = new Int32Array(offsets[events]);
    for (let i = 0, at = 0; i < events; i++) {
      const e = order[i];
      for (let k = e === 0 ? 0 : ends[e - 1]; k < ends[e]; k++) ids[at++] = source[k];
    }
    return { kind: 'categories', offsets, ids };
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

  append({ rows, count }: RowBatch, checks: RowChecks): void {
    const { column, bounds, mean } = this;
    const scale = 1 / this.deviation;
    this.start = this.ids.length;
    const ids = this.ids.reserve(count);
    const values = this.values.reserve(count);
    for (let i = 0, at = this.start; i < count; i++, at++) {
      const value = readNumber(rows[i][column]);
      if (value === UNREADABLE) checks.flag(i, column, 'malformed', numberReason(rows[i][column]));
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

  finish(order: Int32Array | undefined): Column {
    const ids = gatherInt32(this.ids, order);
    if (order === undefined) return { kind: 'number', ids, values: this.values.data.slice(0, this.values.length) };
    const source = this.values.data;
    const values = new Float32Array(order.length);
    for (let i = 0; i < values.length; i++) values[i] = source[order[i]];
    return { kind: 'number', ids, values };
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

  append({ rows, count }: RowBatch, checks: RowChecks): void {
    for (let i = 0; i < count; i++) {
      const value = rows[i][this.column];
      if (value === undefined || value === null || typeof value === 'string') continue;
      if (categoryText(value) === undefined && !Number.isNaN(value))
        checks.flag(i, this.column, 'malformed', `${show(value)} is not a text`);
    }
  }

  /** Embeds the texts of the rows that stayed; a row without a text keeps the zero vector. */
  async settle({ rows, count }: RowBatch, { flags }: RowChecks): Promise<void> {
    const { vectors, embedder, column } = this;
    const { width } = embedder;
    const texts: string[] = [];
    const places: number[] = [];
    let at = vectors.length;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const value = categoryText(rows[i][column]);
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

  finish(order: Int32Array | undefined): Column {
    const { width } = this.embedder;
    const source = this.vectors.data;
    if (order === undefined) return { kind: 'text', width, vectors: source.slice(0, this.vectors.length) };
    const vectors = new Float32Array(order.length * width);
    for (let i = 0; i < order.length; i++) vectors.set(source.subarray(order[i] * width, (order[i] + 1) * width), i * width);
    return { kind: 'text', width, vectors };
  }
}
