import type { Column } from './columns.js';

/** Bytes that can be read from any place on. */
export interface Section {
  /** Fills `bytes` with what stands from byte `at` on. */
  read(bytes: Uint8Array, at: number): Promise<void>;
}

type Numbers = Int32Array | Float32Array | Float64Array;

/** The arrays of a column with a fixed number of values per event. */
export function fixedParts(column: Exclude<Column, { kind: 'categories' }>): Record<string, Int32Array | Float32Array> {
  switch (column.kind) {
    case 'categorical':
      return { ids: column.ids };
    case 'number':
      return { ids: column.ids, values: column.values };
    case 'time':
      return { gap: column.gap, hour: column.hour, weekday: column.weekday };
    case 'text':
      return { vectors: column.vectors };
    default:
      throw new Error(`internal: no parts of ${(column satisfies never as Column).kind}`);
  }
}

/** Where each bag of a column ends in a store that already holds `before` ids: what is written after the first 0. */
export function bagEnds(offsets: Int32Array, before: number): Float64Array {
  const ends = new Float64Array(offsets.length - 1);
  for (let e = 0; e < ends.length; e++) ends[e] = before + offsets[e + 1] - offsets[0];
  return ends;
}

/**
 * A column on disk: a section per part. Bags have `offsets` (float64, one more than there are events, from the first id of the
 * section) and `ids`.
 */
export interface StoredColumn {
  readonly kind: Column['kind'];
  /** Of texts. */
  readonly width?: number;
  readonly parts: Readonly<Record<string, Section>>;
}

/** Events `from` to `to` of a stored column. */
export interface StoredPiece {
  readonly column: StoredColumn;
  readonly from: number;
  readonly to: number;
}

export function bytesOf(values: Numbers): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Reads values one after the other into a new array: `[section, first value, number of values]` each. */
async function readParts<Values extends Numbers>(
  out: Values,
  pieces: readonly (readonly [Section, number, number])[],
): Promise<Values> {
  let at = 0;
  for (const [section, first, count] of pieces) {
    if (count > 0) await section.read(bytesOf(out.subarray(at, at + count)), first * out.BYTES_PER_ELEMENT);
    at += count;
  }
  return out;
}

export async function readFloats64(section: Section, from: number, to: number): Promise<Float64Array> {
  return readParts(new Float64Array(to - from), [[section, from, to - from]]);
}

/** Several stored pieces of one column, one after the other, as one column. */
export async function readColumn(pieces: readonly StoredPiece[]): Promise<Column> {
  const { kind, width = 1 } = pieces[0].column;
  const events = pieces.reduce((sum, { from, to }) => sum + to - from, 0);
  const part = (name: string, perEvent = 1) =>
    pieces.map(({ column, from, to }) => [column.parts[name], from * perEvent, (to - from) * perEvent] as const);
  const ids = (name: string) => readParts(new Int32Array(events), part(name));
  switch (kind) {
    case 'categorical':
      return { kind, ids: await ids('ids') };
    case 'number':
      return { kind, ids: await ids('ids'), values: await readParts(new Float32Array(events), part('values')) };
    case 'time':
      return { kind, gap: await ids('gap'), hour: await ids('hour'), weekday: await ids('weekday') };
    case 'text':
      return { kind, width, vectors: await readParts(new Float32Array(events * width), part('vectors', width)) };
    case 'categories':
      return readBags(pieces, events);
    default:
      throw new Error(`internal: no reading of ${kind satisfies never as string}`);
  }
}

async function readBags(pieces: readonly StoredPiece[], events: number): Promise<Column> {
  const offsets = new Int32Array(events + 1);
  const ranges: [Section, number, number][] = [];
  let event = 0;
  for (const { column, from, to } of pieces) {
    if (from === to) continue;
    const ends = await readFloats64(column.parts.offsets, from, to + 1);
    const shift = offsets[event] - ends[0];
    for (let e = 1; e < ends.length; e++) offsets[++event] = ends[e] + shift;
    ranges.push([column.parts.ids, ends[0], ends[ends.length - 1] - ends[0]]);
  }
  return { kind: 'categories', offsets, ids: await readParts(new Int32Array(offsets[events]), ranges) };
}
