import { checkOptions } from './check-options.js';
import { EventCollector } from './collect.js';
import type { EncodeOptions, Encoder } from './collect.js';
import type { EncodedEvents } from './columns.js';
import { DuplicateList, layOut } from './lay-out.js';
import { forEachBatch } from './row-source.js';
import type { Rows } from './row-source.js';

export const encodeOptions = {
  policies: true,
  strict: true,
  previousTime: true,
  maxRejections: true,
  signal: true,
  onProgress: true,
} as const;

/** Reads all rows once, applies the policies, and lays the events out by user and time. */
export async function encodeRows(encoder: Encoder, source: Rows, options: EncodeOptions): Promise<EncodedEvents> {
  checkOptions(options, encodeOptions);
  let collector: EventCollector | undefined = new EventCollector(encoder, options);
  const { checks } = collector;
  await forEachBatch(source, (batch) => collector?.add(batch), options.signal);
  const { userNames, outOfOrder, rows } = collector;
  const previous = collector.previousTimes(0, userNames.length);
  const raw = collector.view();
  // Nothing but `raw` holds the grown arrays from here on.
  collector = undefined;
  const duplicates = raw.lines && new DuplicateList(options.maxRejections ?? 10_000);
  const { offsets, times, fields, repeated, unknownItems } = layOut(encoder, raw, previous, duplicates);
  duplicates?.settle(checks);
  return {
    tokenizer: encoder.hash,
    users: userNames,
    offsets,
    times,
    fields,
    rejected: checks.rejected,
    counts: {
      rows,
      events: times.length,
      rejected: checks.rejectedCount,
      outOfOrder,
      duplicates: duplicates ? 0 : repeated,
      unknownItems,
    },
  };
}
