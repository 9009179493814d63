import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import { type Dim, type GraphBuilder, type HostTensor, type Tensor } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { userOf } from '../event-owner.js';
import { itemIds } from '../item-scores.js';
import type { Sequence } from '../sequences.js';
import type { ObjectiveRun } from './objective.js';

/**
 * Whether users take an item again. Where nobody does, the next item is one of those that are not in the history, and it is told from
 * these alone: nothing has to be learned to keep the score of what was read a moment ago down, which a table that is both what is read
 * and what is predicted otherwise spends much of its room on.
 */
export type Repeats = 'allowed' | 'never';

/** Of the events of a log, the share up to which items that come again are taken for slips. */
const slips = 0.01;

/** @throws EncoderOptionError */
export function checkRepeats(repeats: Repeats | 'auto'): void {
  if (repeats !== 'auto' && repeats !== 'allowed' && repeats !== 'never')
    throw new EncoderOptionError('repeats', `'${String(repeats)}' is none of auto, allowed and never`);
}

/** What a log's events say where it was not said. */
export function repeatsOf(said: Repeats | 'auto', { config, events, spans }: ObjectiveRun): Repeats {
  if (said !== 'auto') return said;
  const ids = itemIds(config, events);
  let again = 0;
  let known = 0;
  for (const { start, end } of spans) {
    const met = new Set<number>();
    for (let event = start; event < end; event++) {
      if (ids[event] < FIRST_VALUE_ID) continue;
      known++;
      if (met.has(ids[event])) again++;
      else met.add(ids[event]);
    }
  }
  return again <= slips * known ? 'never' : 'allowed';
}

/** What each row's user had taken when its events happened. */
export interface TakenItems {
  /** Distinct ids in the order of their first event, int32 [U, S]; 0 behind the last. */
  readonly ids: Tensor;
  /** int32 [U, T]: how many of them, from the first, came before each target. */
  readonly before: Tensor;
}

const prefix = 'taken';
const idsInput = 'ids';
const beforeInput = 'before';
/** Lists are padded to a multiple, so that steps share few shapes. */
const roundTo = 64;

/** Declares the inputs. @param shape of the targets, [U, T] */
export function declareTaken(builder: GraphBuilder, shape: readonly Dim[]): TakenItems {
  const taken = builder.scope(prefix);
  return {
    ids: taken.input(idsInput, [shape[0], 'taken'], 'int32'),
    before: taken.input(beforeInput, shape, 'int32'),
  };
}

/** [U, T, S] whether the user of a row had taken the item when the target came, and it is not the target itself. @param target ids [U, T] */
export function takenBefore({ ids, before }: TakenItems, target: Tensor): Tensor {
  const [rows, taken] = ids.shape;
  const place = ids.graph.range(taken).reshape([1, 1, taken]);
  const each = target.unsqueeze(2); // [U, T, 1]
  return place.less(before.unsqueeze(2)).and(each.equal(ids.reshape([rows, 1, taken])).not());
}

/** [U] of each row: the place of an item in its list, for those in it. */
export type TakenPlaces = readonly ReadonlyMap<number, number>[];

/**
 * Feeds of `declareTaken`: of every row, the items of its events and of as many before them as a window has.
 *
 * @param length T of the targets: one for every event of a row, in its order
 */
export function takenFeeds(
  { config, events }: ObjectiveRun,
  rows: readonly (Sequence | null)[],
  length: number,
): { feeds: Record<string, HostTensor>; places: TakenPlaces } {
  const ids = itemIds(config, events);
  const before = new Int32Array(rows.length * length);
  const places = rows.map((row, at) => {
    const list = new Map<number, number>();
    if (!row || row.events.length === 0) return list;
    const [start, end] = spanOf(row.events);
    const from = Math.max(events.offsets[userOf(events.offsets, start)], start - config.context);
    const met = new Int32Array(end - from);
    for (let event = from; event < end; event++) {
      met[event - from] = list.size;
      if (ids[event] >= FIRST_VALUE_ID && !list.has(ids[event])) list.set(ids[event], list.size);
    }
    row.events.forEach((event, i) => (before[at * length + i] = met[event - from]));
    return list;
  });
  const longest = Math.max(1, ...places.map(({ size }) => size));
  const size = Math.ceil(longest / roundTo) * roundTo;
  const lists = new Int32Array(rows.length * size);
  places.forEach((list, at) => lists.set([...list.keys()], at * size));
  return {
    feeds: {
      [`${prefix}.${idsInput}`]: { dtype: 'int32', shape: [rows.length, size], data: lists },
      [`${prefix}.${beforeInput}`]: { dtype: 'int32', shape: [rows.length, length], data: before },
    },
    places,
  };
}

/** First of some events of one user, and one past the last; augmentation may have swapped them. */
function spanOf(list: Int32Array): [start: number, end: number] {
  let start = list[0];
  let last = list[0];
  for (const event of list) {
    start = Math.min(start, event);
    last = Math.max(last, event);
  }
  return [start, last + 1];
}
