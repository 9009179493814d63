import type { CategoriesColumn, Column } from './columns.js';

/** Bags of categories that events share: event `e` has `ids[starts[b] .. starts[b + 1])` of bag b = `bagOf[e]`, never empty. */
export interface BagsColumn {
  readonly kind: 'bags';
  /** [N] */
  readonly bagOf: Int32Array;
  /** [bags + 1] */
  readonly starts: Int32Array;
  readonly ids: Int32Array;
}

/** A column before events are laid out: time features come only with their order. */
export type RawColumn = Exclude<Column, { kind: 'time' }> | BagsColumn;

/** Events as they were read: in file order, or at least each user's in file order. */
export interface RawEvents {
  /** [N] User index of each event. */
  readonly userOf: Int32Array;
  /** [N] */
  readonly times: Float64Array;
  /** [N] Only where duplicates are refused. */
  readonly lines: Float64Array | undefined;
  /** By field name; unknown items are negative (see `CategoricalBuilder`). */
  readonly fields: Record<string, RawColumn>;
}

export function gatherInt32(source: Int32Array, order: Int32Array): Int32Array {
  const out = new Int32Array(order.length);
  for (let i = 0; i < out.length; i++) out[i] = source[order[i]];
  return out;
}

export function gatherFloat64(source: Float64Array, order: Int32Array): Float64Array {
  const out = new Float64Array(order.length);
  for (let i = 0; i < out.length; i++) out[i] = source[order[i]];
  return out;
}

function gatherFloat32(source: Float32Array, order: Int32Array): Float32Array {
  const out = new Float32Array(order.length);
  for (let i = 0; i < out.length; i++) out[i] = source[order[i]];
  return out;
}

/** A copy of a column in the given order (place in the result -> place in the column); undefined for its own. */
export function gatherColumn(column: RawColumn, order: Int32Array | undefined): Exclude<Column, { kind: 'time' }> {
  switch (column.kind) {
    case 'categorical':
      return { kind: 'categorical', ids: order ? gatherInt32(column.ids, order) : column.ids.slice() };
    case 'number': {
      const { kind, ids, values } = column;
      if (order === undefined) return { kind, ids: ids.slice(), values: values.slice() };
      return { kind, ids: gatherInt32(ids, order), values: gatherFloat32(values, order) };
    }
    case 'text': {
      const { kind, width, vectors: source } = column;
      if (order === undefined) return { kind, width, vectors: source.slice() };
      const vectors = new Float32Array(order.length * width);
      for (let i = 0; i < order.length; i++) vectors.set(source.subarray(order[i] * width, (order[i] + 1) * width), i * width);
      return { kind, width, vectors };
    }
    case 'categories': {
      const { kind, offsets, ids } = column;
      return order ? gatherLists(offsets, ids, order) : { kind, offsets: offsets.slice(), ids: ids.slice() };
    }
    case 'bags': {
      const { bagOf, starts, ids } = column;
      return gatherLists(starts, ids, order ? gatherInt32(bagOf, order) : bagOf);
    }
    default:
      throw new Error(`internal: no copy of ${(column satisfies never as RawColumn).kind}`);
  }
}

/** One list of a source after another: those that `order` names, `source[starts[l] .. starts[l + 1])` each. */
function gatherLists(starts: Int32Array, source: Int32Array, order: Int32Array): CategoriesColumn {
  const offsets = new Int32Array(order.length + 1);
  for (let i = 0, at = 0; i < order.length; i++) offsets[i + 1] = at += starts[order[i] + 1] - starts[order[i]];
  const ids = new Int32Array(offsets[order.length]);
  for (let i = 0, at = 0; i < order.length; i++) {
    const end = starts[order[i] + 1];
    for (let k = starts[order[i]]; k < end; k++) ids[at++] = source[k];
  }
  return { kind: 'categories', offsets, ids };
}
