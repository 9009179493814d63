import type { Column, EventColumns } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { inputNames, predictedTimeParts, timeParts, type InputField } from './input-fields.js';

/** Events `start` to `end` of some columns: one row of a batch. `null` is a row without events. */
export type Window = { readonly start: number; readonly end: number } | null;

/** Events one after another in a row of a batch, by their index in the columns; -1 is a place without an event. */
export type EventList = Int32Array;

/** How many places a bag of categories has in a batch, by field name. */
export type BagSizes = Readonly<Record<string, number>>;

export const eventPrefix = 'events.';

/** The largest bag of each field of categories over the windows, or over all events. */
export function bagSizes(fields: readonly InputField[], events: EventColumns, windows?: readonly Window[]): BagSizes {
  const sizes: Record<string, number> = {};
  const ranges = windows ?? [{ start: 0, end: events.offsets[events.users.length] }];
  for (const { kind, name } of fields) {
    if (kind !== 'categories') continue;
    const { offsets } = columnOf(events, name, 'categories');
    let most = 1;
    for (const range of ranges) {
      if (!range) continue;
      for (let e = range.start; e < range.end; e++) most = Math.max(most, offsets[e + 1] - offsets[e]);
    }
    sizes[name] = most;
  }
  return sizes;
}

/**
 * The inputs of the graph for rows of events, each on the left of its row and padded on the right.
 *
 * @param length T, at least as long as the longest window
 * @returns ids int32 [windows, T] (of bags [windows, T, bag]), text vectors float32 [windows, T, width]
 */
export function eventFeeds(
  fields: readonly InputField[],
  events: EventColumns,
  windows: readonly (Window | EventList)[],
  length: number,
  bags: BagSizes,
  { prefix = eventPrefix, targets = false }: { prefix?: string; targets?: boolean } = {},
): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {};
  const rows = windows.length;
  const place = (visit: (at: number, event: number) => void): void =>
    windows.forEach((row, i) => {
      if (!row) return;
      if (ArrayBuffer.isView(row)) row.forEach((event, at) => event >= 0 && visit(i * length + at, event));
      else for (let event = row.start, at = i * length; event < row.end; event++, at++) visit(at, event);
    });
  const ids = (source: Int32Array): HostTensor => {
    const data = new Int32Array(rows * length);
    place((at, event) => (data[at] = source[event]));
    return { dtype: 'int32', shape: [rows, length], data };
  };
  for (const field of fields) {
    const [name] = inputNames(field);
    switch (field.kind) {
      case 'categorical':
      case 'number':
        feeds[prefix + name] = ids(columnOf(events, field.name, field.kind).ids);
        break;
      case 'time': {
        const column = columnOf(events, field.name, 'time');
        for (const part of targets ? predictedTimeParts : timeParts) feeds[`${prefix}${field.name}.${part}`] = ids(column[part]);
        break;
      }
      case 'categories':
        feeds[prefix + name] = bagFeed(columnOf(events, field.name, 'categories'), place, [rows, length, bags[field.name]]);
        break;
      case 'text': {
        const { width, vectors } = columnOf(events, field.name, 'text');
        const data = new Float32Array(rows * length * width);
        place((at, event) => data.set(vectors.subarray(event * width, (event + 1) * width), at * width));
        feeds[prefix + name] = { dtype: 'float32', shape: [rows, length, width], data };
        break;
      }
      default:
        throw new Error(`internal: no feed for ${(field satisfies never as InputField).kind}`);
    }
  }
  return feeds;
}

function bagFeed(
  column: Extract<Column, { kind: 'categories' }>,
  place: (visit: (at: number, event: number) => void) => void,
  shape: readonly [number, number, number],
): HostTensor {
  const [rows, length, bag] = shape;
  const data = new Int32Array(rows * length * bag);
  place((at, event) => data.set(column.ids.subarray(column.offsets[event], column.offsets[event + 1]), at * bag));
  return { dtype: 'int32', shape, data };
}

export function columnOf<Kind extends Column['kind']>(
  events: EventColumns,
  name: string,
  kind: Kind,
): Extract<Column, { kind: Kind }> {
  const column = events.fields[name];
  if (column?.kind !== kind)
    throw new Error(`internal: field '${name}' is a ${column?.kind} column where one tokenizer gives ${kind}`);
  return column as Extract<Column, { kind: Kind }>;
}

/** An int32 vector as a feed. */
export const vector = (values: readonly number[]): HostTensor => ({
  dtype: 'int32',
  shape: [values.length],
  data: Int32Array.from(values),
});
