import type { Column, EventColumns } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { inputNames, predictedTimeParts, timeParts, type InputField } from './input-fields.js';

/** Events `start` to `end` of some columns: one row of a batch. `null` is a row without events. */
export type Window = { readonly start: number; readonly end: number } | null;

/** How many places a bag of categories has in a batch, by field name. */
export type BagSizes = Readonly<Record<string, number>>;

export const eventPrefix = 'events.';
export const targetPrefix = 'targets.';

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
 * The inputs of the graph for windows of events, each on the left of its row and padded on the right.
 *
 * @param length T, at least as long as the longest window
 * @returns ids int32 [windows, T] (of bags [windows, T, bag]), text vectors float32 [windows, T, width]
 */
export function eventFeeds(
  fields: readonly InputField[],
  events: EventColumns,
  windows: readonly Window[],
  length: number,
  bags: BagSizes,
  prefix: typeof eventPrefix | typeof targetPrefix = eventPrefix,
): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {};
  const rows = windows.length;
  const ids = (source: Int32Array): HostTensor => {
    const data = new Int32Array(rows * length);
    windows.forEach((window, row) => window && data.set(source.subarray(window.start, window.end), row * length));
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
        for (const part of prefix === targetPrefix ? predictedTimeParts : timeParts)
          feeds[`${prefix}${field.name}.${part}`] = ids(column[part]);
        break;
      }
      case 'categories':
        feeds[prefix + name] = bagFeed(columnOf(events, field.name, 'categories'), windows, length, bags[field.name]);
        break;
      case 'text': {
        const { width, vectors } = columnOf(events, field.name, 'text');
        const data = new Float32Array(rows * length * width);
        windows.forEach(
          (window, row) => window && data.set(vectors.subarray(window.start * width, window.end * width), row * length * width),
        );
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
  windows: readonly Window[],
  length: number,
  bag: number,
): HostTensor {
  const data = new Int32Array(windows.length * length * bag);
  windows.forEach((window, row) => {
    if (!window) return;
    for (let e = window.start, at = row * length * bag; e < window.end; e++, at += bag)
      for (let i = column.offsets[e], place = at; i < column.offsets[e + 1]; i++, place++) data[place] = column.ids[i];
  });
  return { dtype: 'int32', shape: [windows.length, length, bag], data };
}

function columnOf<Kind extends Column['kind']>(events: EventColumns, name: string, kind: Kind): Extract<Column, { kind: Kind }> {
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
