import { UNKNOWN_ID } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { eventFeeds } from '../event-feeds.js';
import type { InputField } from '../input-fields.js';
import type { Sequence } from '../sequences.js';
import { windowFeeds } from '../window-feeds.js';
import type { ObjectiveRun } from './objective.js';

/** Prefix of the targets' inputs. */
export const targetPrefix = 'targets.';

type Rows = readonly (Sequence | null)[];

/** How `ObjectiveRun` feeds the events that are read. */
export const readWith =
  (run: Pick<ObjectiveRun, 'config' | 'events' | 'bags'>): ObjectiveRun['read'] =>
  (rows, length, prefix = 'events') =>
    readFeeds(run, rows, length, prefix);

function readFeeds(
  { config, events, bags }: Pick<ObjectiveRun, 'config' | 'events' | 'bags'>,
  rows: Rows,
  length: number,
  prefix: string,
): Record<string, HostTensor> {
  const longest = Math.max(0, ...rows.map((row) => row?.read.length ?? 0));
  if (longest > length)
    throw new EncoderOptionError(
      'objective',
      `it reads a row of ${longest} events at ${length} places; a batch's rows have one event more than places, so cut them with sequencePart`,
    );
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
