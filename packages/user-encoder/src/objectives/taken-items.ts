import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import type { Dim, GraphBuilder, HostTensor, Tensor } from '@user-llm/onnx-autograd';
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
      // The same item at the same time is an event that the log says twice, and nothing that its user took again.
      if (event > start && ids[event] === ids[event - 1] && events.times[event] === events.times[event - 1]) continue;
      known++;
      if (met.has(ids[event])) again++;
      else met.add(ids[event]);
    }
  }
  return again <= slips * known ? 'never' : 'allowed';
}

/** What each row's user had taken when its targets came. */
export interface TakenItems {
  /** Distinct ids, int32 [U, S]; 0 behind the last. */
  readonly ids: Tensor;
  /** int32 [U, T]: how many of them, from the first, came before each target. */
  readonly before: Tensor;
}

const idsInput = 'ids';
const beforeInput = 'before';
/** Lists are padded to a multiple, so that steps share few shapes. */
const roundTo = 64;

/**
 * Declares the inputs.
 *
 * @param scope of the inputs, and the name of their axis: one for each objective
 * @param shape of the targets, [U, T]
 */
export function declareTaken(builder: GraphBuilder, scope: string, shape: readonly Dim[]): TakenItems {
  const taken = builder.scope(scope);
  return {
    ids: taken.input(idsInput, [shape[0], scope], 'int32'),
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

/** Feeds of `declareTaken`, and where each item stands in them. */
export interface TakenFeeds {
  readonly feeds: Record<string, HostTensor>;
  readonly places: TakenPlaces;
}

type Rows = readonly (Sequence | null)[];
type History = Pick<ObjectiveRun, 'config' | 'events'>;

/**
 * Of every row, the items of its events and of as many before them as a window has, in the order of their first event: what comes is told
 * from those before it, in the log or in the row.
 *
 * @param length T of the targets: one for every event of a row, in its order
 * @param skipped so many first events of a row are no targets
 */
export function takenBeforeEvents(run: History, scope: string, rows: Rows, length: number, skipped = 0): TakenFeeds {
  const before = new Int32Array(rows.length * length);
  const places = rows.map((row, at) => {
    if (!row || row.events.length === 0) return new Map<number, number>();
    const { list, first, met } = metIn(run, row.events);
    // Of events that augmentation swapped, one comes after another that stands behind it in the log.
    let read = 0;
    row.events.forEach((event, i) => {
      if (i >= skipped) before[at * length + i - skipped] = Math.max(read, met[event - first]);
      read = Math.max(read, met[event - first + 1]);
    });
    return list;
  });
  return takenFeeds(scope, places, before, length);
}

/**
 * The same, but for what is hidden: of every row all other items, before it and after.
 *
 * @param hidden of every row, the events that are its targets
 * @param length T of the targets
 */
export function takenAroundEvents(
  run: History,
  scope: string,
  rows: Rows,
  hidden: readonly (readonly number[])[],
  length: number,
): TakenFeeds {
  const before = new Int32Array(rows.length * length);
  const places = rows.map((row, at) => {
    if (!row || row.events.length === 0) return new Map<number, number>();
    const { list } = metIn(run, row.events, new Set(hidden[at]));
    return list;
  });
  places.forEach(({ size }, at) => before.fill(size, at * length, at * length + hidden[at].length));
  return takenFeeds(scope, places, before, length);
}

/**
 * The items of some events of one user and of a window before them, and how many had been met by each event from the first on, and after
 * the last.
 */
function metIn(
  { config, events }: History,
  list: Int32Array,
  hidden?: ReadonlySet<number>,
): { list: Map<number, number>; first: number; met: Int32Array } {
  const ids = itemIds(config, events);
  const [start, end] = spanOf(list);
  const first = Math.max(events.offsets[userOf(events.offsets, start)], start - config.context);
  const found = new Map<number, number>();
  const met = new Int32Array(end - first + 1);
  for (let event = first; event < end; event++) {
    if (ids[event] >= FIRST_VALUE_ID && !found.has(ids[event]) && !hidden?.has(event)) found.set(ids[event], found.size);
    met[event - first + 1] = found.size;
  }
  return { list: found, first, met };
}

function takenFeeds(scope: string, places: TakenPlaces, before: Int32Array, length: number): TakenFeeds {
  const rows = places.length;
  const longest = Math.max(1, ...places.map(({ size }) => size));
  const size = Math.ceil(longest / roundTo) * roundTo;
  const lists = new Int32Array(rows * size);
  places.forEach((list, at) => lists.set([...list.keys()], at * size));
  return {
    feeds: {
      [`${scope}.${idsInput}`]: { dtype: 'int32', shape: [rows, size], data: lists },
      [`${scope}.${beforeInput}`]: { dtype: 'int32', shape: [rows, length], data: before },
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

/**
 * [N, C] whether the user of a row had taken each candidate when the target came.
 *
 * @param name of the input that is declared, fed by `candidatePlaces`
 * @param count C
 */
export function takenCandidates(builder: GraphBuilder, name: string, count: Dim, { before }: TakenItems): Tensor {
  const [rows, targets] = before.shape;
  const places = builder.input(name, [rows, count], 'int32').unsqueeze(1); // [U, 1, C]
  return places.less(before.reshape([rows, targets, 1])).reshape([-1, count]);
}

/** Where each of some items stands in every row's list, int32 [U, C]. */
export function candidatePlaces(ids: ArrayLike<number>, taken: TakenPlaces): HostTensor {
  const count = ids.length;
  const at = new Map<number, number[]>();
  Array.from(ids, (id, i) => {
    const same = at.get(id);
    if (same) same.push(i);
    else at.set(id, [i]);
  });
  const data = new Int32Array(taken.length * count).fill(nowhere);
  taken.forEach((list, row) => {
    for (const [id, place] of list) for (const i of at.get(id) ?? []) data[row * count + i] = place;
  });
  return { dtype: 'int32', shape: [taken.length, count], data };
}

/** Behind every list. */
const nowhere = 2 ** 30;
