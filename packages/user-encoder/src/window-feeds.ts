import type { EventColumns } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { bandOf, type Band, type EncoderConfig } from './config.js';
import { eventFeeds, type BagSizes, type EventList, type Window } from './event-feeds.js';
import { userOf } from './event-owner.js';
import { gapBucket, knownTime, Turns } from './relative-position.js';
import { blocksInput, gapsInput, turnsInputs, type AttentionForm } from './window-inputs.js';

/** Far below any score, and still finite: what hides a pair of events. */
export const hidden = -1e9;

type Rows = readonly (Window | EventList)[];

interface WindowFeedsOptions {
  readonly form?: AttentionForm;
  /** Of the inputs' names. Default: events. */
  readonly prefix?: string;
  /** Rows whose times stand for those of the rows read, where other events were put in their places. */
  readonly timesOf?: Rows;
}

/**
 * All inputs that the encoder's states are made of, for rows of events: each on the left of its row and padded on the right.
 *
 * @param length T, at least as long as the longest row; in blocks a multiple of W
 */
export function windowFeeds(
  config: EncoderConfig,
  events: EventColumns,
  rows: Rows,
  length: number,
  bags: BagSizes,
  { form = 'mask', prefix = 'events', timesOf = rows }: WindowFeedsOptions = {},
): Record<string, HostTensor> {
  const feeds = eventFeeds(config.fields, events, rows, length, bags, { prefix: `${prefix}.` });
  const band = bandOf(config);
  if (!band) return feeds;
  if (form === 'blocks') feeds[blocksInput] = nothingBefore(band, rows.length, length);
  if (band.position === 'rotary-time') Object.assign(feeds, turnsOf(config, events, timesOf, length, prefix));
  if (band.position === 'relative-time')
    feeds[gapsInput(prefix)] = (form === 'mask' ? gapsOfPairs : gapsInBlocks)(
      band,
      timesOf.map((row) => times(events, row)),
      length,
    );
  return feeds;
}

/** Angles of every event by its place in the row and its time: [U, T, D / H / 2] each. */
function turnsOf(
  { width, heads }: EncoderConfig,
  { times, offsets }: EventColumns,
  rows: Rows,
  length: number,
  prefix: string,
): Record<string, HostTensor> {
  const half = width / heads / 2;
  const turns = new Turns(half);
  const shape = [rows.length, length, half];
  const cosine = new Float32Array(rows.length * length * half);
  const sine = new Float32Array(cosine.length);
  rows.forEach((row, at) => {
    if (!row) return;
    const list = ArrayBuffer.isView(row) ? row : Int32Array.from({ length: row.end - row.start }, (_, i) => row.start + i);
    if (list.length === 0) return;
    // A row is of one user.
    const first = offsets[userOf(offsets, list[0])];
    for (let i = 0; i < list.length; i++)
      turns.write(i, knownTime(times, list[i], first), cosine, sine, (at * length + i) * half);
  });
  const names = turnsInputs(prefix);
  return {
    [names.cosine]: { dtype: 'float32', shape, data: cosine },
    [names.sine]: { dtype: 'float32', shape, data: sine },
  };
}

/** Of the events of a row. */
function times(events: EventColumns, row: Window | EventList): Float64Array {
  if (!row) return new Float64Array(0);
  if (ArrayBuffer.isView(row)) return Float64Array.from(row, (event) => events.times[event]);
  return events.times.subarray(row.start, row.end);
}

/** [n, 2 W]: the first block of a window has none before it. */
function nothingBefore({ window }: Band, windows: number, length: number): HostTensor {
  const data = new Float32Array(2 * windows * length);
  for (let row = 0; row < windows; row++) data.fill(hidden, 2 * row * length, 2 * row * length + window);
  return { dtype: 'float32', shape: [(windows * length) / window, 2 * window], data };
}

/** [U, T, T]: buckets of the pairs inside the band. */
function gapsOfPairs({ window }: Band, rows: readonly Float64Array[], length: number): HostTensor {
  const data = new Int32Array(rows.length * length * length);
  rows.forEach((row, at) => {
    for (let query = 0; query < row.length; query++)
      for (let key = Math.max(0, query - window + 1); key <= query; key++)
        data[(at * length + query) * length + key] = gapBucket(row[query] - row[key]);
  });
  return { dtype: 'int32', shape: [rows.length, length, length], data };
}

/** [n, W, 2 W]: the same pairs; the keys of a block begin one block earlier. */
function gapsInBlocks({ window }: Band, rows: readonly Float64Array[], length: number): HostTensor {
  const data = new Int32Array(rows.length * length * 2 * window);
  rows.forEach((row, at) => {
    for (let query = 0; query < row.length; query++) {
      const firstKey = (Math.floor(query / window) - 1) * window;
      for (let key = Math.max(0, query - window + 1); key <= query; key++)
        data[(at * length + query) * 2 * window + key - firstKey] = gapBucket(row[query] - row[key]);
    }
  });
  return { dtype: 'int32', shape: [(rows.length * length) / window, window, 2 * window], data };
}
