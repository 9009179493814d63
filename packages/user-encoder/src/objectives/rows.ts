import { UNKNOWN_ID } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { eventFeeds } from '../event-feeds.js';
import type { InputField } from '../input-fields.js';
import type { Sequence } from '../sequences.js';
import { windowFeeds } from '../window-feeds.js';
import type { ObjectiveRun } from './objective.js';

/** Prefix of the targets' inputs. */
export const targetPrefix = 'targets.';

type Rows = readonly (Sequence | null)[];

/** Feeds of the events that are read. */
export function readFeeds(
  { config, events, bags }: ObjectiveRun,
  rows: Rows,
  length: number,
  prefix = 'events',
): Record<string, HostTensor> {
  const feeds = windowFeeds(
    config,
    events,
    rows.map((row) => row && row.read),
    length,
    bags,
    { prefix, timesOf: rows.map((row) => row && row.events) },
  );
  const items = feeds[`${prefix}.${config.fields[0].name}`].data as Int32Array;
  rows.forEach((row, at) => row?.unknown.forEach((unknown, i) => unknown && (items[at * length + i] = UNKNOWN_ID)));
  return feeds;
}

/** Feeds of the events that are predicted. `lists` are event indexes, -1 where nothing is. */
export const targetFeeds = (
  { events, bags }: ObjectiveRun,
  fields: readonly InputField[],
  lists: readonly (Int32Array | null)[],
  length: number,
): Record<string, HostTensor> => eventFeeds(fields, events, lists, length, bags, { prefix: targetPrefix, targets: true });
