import type { EventColumns } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { blocksInput, gapsInput, type AttentionForm } from './band.js';
import type { Band, EncoderConfig } from './config.js';
import { eventFeeds, type BagSizes, type Window } from './event-feeds.js';
import { gapBucket } from './relative-position.js';

/** Far below any score, and still finite: what hides a pair of events. */
export const hidden = -1e9;

/**
 * All inputs that the encoder's states are made of, for windows of events: each on the left of its row and padded on the right.
 *
 * @param length T, at least as long as the longest window; in blocks a multiple of W
 */
export function windowFeeds(
  config: EncoderConfig,
  events: EventColumns,
  windows: readonly Window[],
  length: number,
  bags: BagSizes,
  form: AttentionForm = 'mask',
): Record<string, HostTensor> {
  const feeds = eventFeeds(config.fields, events, windows, length, bags);
  const { attention: band } = config;
  if (!band) return feeds;
  if (form === 'blocks') feeds[blocksInput] = nothingBefore(band, windows.length, length);
  if (band.position === 'relative-time')
    feeds[gapsInput] = form === 'mask' ? gapsOfPairs(band, events, windows, length) : gapsInBlocks(band, events, windows, length);
  return feeds;
}

/** [n, 2 W]: the first block of a window has none before it. */
function nothingBefore({ window }: Band, windows: number, length: number): HostTensor {
  const data = new Float32Array(2 * windows * length);
  for (let row = 0; row < windows; row++) data.fill(hidden, 2 * row * length, 2 * row * length + window);
  return { dtype: 'float32', shape: [(windows * length) / window, 2 * window], data };
}

/** [U, T, T]: buckets of the pairs inside the band. */
function gapsOfPairs({ window }: Band, { times }: EventColumns, windows: readonly Window[], length: number): HostTensor {
  const data = new Int32Array(windows.length * length * length);
  windows.forEach((range, row) => {
    if (!range) return;
    for (let query = range.start; query < range.end; query++) {
      const at = (row * length + query - range.start) * length - range.start;
      for (let key = Math.max(range.start, query - window + 1); key <= query; key++)
        data[at + key] = gapBucket(times[query] - times[key]);
    }
  });
  return { dtype: 'int32', shape: [windows.length, length, length], data };
}

/** [n, W, 2 W]: the same pairs; a row's keys begin a block earlier. */
function gapsInBlocks({ window }: Band, { times }: EventColumns, windows: readonly Window[], length: number): HostTensor {
  const data = new Int32Array(windows.length * length * 2 * window);
  windows.forEach((range, row) => {
    if (!range) return;
    for (let query = range.start; query < range.end; query++) {
      const place = query - range.start;
      const firstKey = (Math.floor(place / window) - 1) * window + range.start;
      const at = (row * length + place) * 2 * window - firstKey;
      for (let key = Math.max(range.start, query - window + 1); key <= query; key++)
        data[at + key] = gapBucket(times[query] - times[key]);
    }
  });
  return { dtype: 'int32', shape: [(windows.length * length) / window, window, 2 * window], data };
}
