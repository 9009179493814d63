import type { Column } from './columns.js';

/** Events as they were read: in file order, or at least each user's in file order. */
export interface RawEvents {
  /** [N] User index of each event. */
  readonly userOf: Int32Array;
  /** [N] */
  readonly times: Float64Array;
  /** [N] Only where duplicates are refused. */
  readonly lines: Float64Array | undefined;
  /** By field name; unknown items are negative (see `CategoricalBuilder`). */
  readonly fields: Record<string, Column>;
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
export function gatherColumn(column: Exclude<Column, { kind: 'time' }>, order: Int32Array | undefined): Column {
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
      if (order === undefined) return { kind: 'categories', offsets: column.offsets.slice(), ids: column.ids.slice() };
      return gatherBags(column.offsets, column.ids, order);
    }
    default:
      throw new Error(`internal: no copy of ${(column satisfies never as Column).kind}`);
  }
}

function gatherBags(starts: Int32Array, source: Int32Array, order: Int32Array): Column {
  const events = order.length;
  const offsets = new Int32Array(events + 1);
  // No bag is empty, so that the room needed is known only by adding up; most often it is all there is.
  let ids = new Int32Array(events === starts.length - 1 ? source.length : 0);
  if (ids.length === 0) {
    let total = 0;
    for (let i = 0; i < events; i++) total += starts[order[i] + 1] - starts[order[i]];
    ids = new Int32Array(total);
  }
  let at = 0;
  for (let i = 0; i < events; i++) {
    const e = order[i];
    const end = starts[e + 1];
    for (let k = starts[e]; k < end; k++) ids[at++] = source[k];
    offsets[i + 1] = at;
  }
  return { kind: 'categories', offsets, ids };
}
