import type { Encoder } from './collect.js';
import type { CategoricalColumn, Column, Rejection } from './columns.js';
import { gatherColumn } from './gather.js';
import type { RawEvents } from './gather.js';
import type { RowChecks } from './row-checks.js';
import { sortByUserAndTime } from './sort-users.js';
import { UNKNOWN_ID } from './special-ids.js';
import { timeFeatures } from './time-features.js';

/** Events of some users, laid out by user and time. */
export interface LaidOut {
  readonly offsets: Int32Array;
  readonly times: Float64Array;
  readonly fields: Record<string, Column>;
  /** Events that repeat an earlier one: left out where `duplicates` is given, else still there. */
  readonly repeated: number;
  readonly unknownItems: number;
}

/**
 * Sorts raw events by user and time, refuses duplicates where there is a list for them, and computes the time features. The fields of
 * `raw` are let go one by one, so that the peak is one column above the result.
 *
 * @param previous [U] time of the event before each user's first, NaN for none
 * @param duplicates where repeated rows go; undefined to keep them
 */
export function layOut(
  { schema, itemField }: Pick<Encoder, 'schema' | 'itemField'>,
  raw: RawEvents,
  previous: Float64Array,
  duplicates: DuplicateList | undefined,
): LaidOut {
  let { order, offsets, times } = sortByUserAndTime(raw.userOf, raw.times, previous.length);
  const items = (raw.fields[itemField] as CategoricalColumn).ids;
  let unknownItems = 0;
  for (let e = 0; e < items.length; e++) if (items[e] < 0) unknownItems++;
  const repeated = schema.time ? findDuplicates(order, offsets, times, items) : [];
  if (duplicates && repeated.length > 0) {
    for (const place of repeated) {
      if (items[order[place]] < 0) unknownItems--;
      duplicates.add(raw.lines?.[order[place]] ?? NaN, schema.fields[itemField].column);
    }
    ({ order, offsets, times } = without(order, offsets, times, repeated));
  }
  const sorting = isIdentity(order, raw.userOf.length) ? undefined : order;
  const fields: Record<string, Column> = {};
  if (schema.time) fields.time = timeFeatures(times, offsets, previous, schema.time);
  for (const [name, column] of Object.entries(raw.fields)) {
    fields[name] = gatherColumn(column, sorting);
    delete raw.fields[name];
  }
  if (unknownItems > 0) {
    const { ids } = fields[itemField] as CategoricalColumn;
    for (let i = 0; i < ids.length; i++) if (ids[i] < 0) ids[i] = UNKNOWN_ID;
  }
  return { offsets, times, fields, repeated: repeated.length, unknownItems };
}

/** Refused duplicates: all are counted, the first by line are kept. */
export class DuplicateList {
  private first: Rejection[] = [];
  private count = 0;

  constructor(private readonly most: number) {}

  add(line: number, field: string): void {
    this.count++;
    this.first.push({ line, field, kind: 'duplicate', reason: 'the row repeats the user, time and item of an earlier row' });
    if (this.first.length >= 2 * this.most + 1024) this.shorten();
  }

  /** Adds them to the rejections of a run. @throws RowError for the first by line, where the policy is to throw. */
  settle(checks: RowChecks): void {
    if (this.count === 0) return;
    this.shorten();
    for (const rejection of this.first) checks.reject(rejection);
    checks.rejectedCount += this.count - this.first.length;
    checks.rejected.sort((a, b) => a.line - b.line);
  }

  private shorten(): void {
    this.first.sort((a, b) => a.line - b.line);
    this.first = this.first.slice(0, Math.max(1, this.most));
  }
}

/** Runs of equal times up to this length are compared pair by pair. */
const SHORT_RUN = 16;

/** Places (in `order`) of events that repeat the user, time and item of an earlier one; `times` are in order. */
function findDuplicates(order: Int32Array, offsets: Int32Array, times: Float64Array, items: Int32Array): number[] {
  const found: number[] = [];
  for (let user = 0; user + 1 < offsets.length; user++) {
    const end = offsets[user + 1];
    for (let from = offsets[user]; from < end;) {
      const time = times[from];
      let to = from + 1;
      while (to < end && times[to] === time) to++;
      if (to - from > SHORT_RUN) {
        const seen = new Set<number>();
        for (let at = from; at < to; at++) {
          const item = items[order[at]];
          if (seen.has(item)) found.push(at);
          else seen.add(item);
        }
      } else {
        for (let at = from + 1; at < to; at++) {
          const item = items[order[at]];
          for (let before = from; before < at; before++) {
            if (items[order[before]] !== item) continue;
            found.push(at);
            break;
          }
        }
      }
      from = to;
    }
  }
  return found;
}

/** Leaves the given places (ascending) out of an order, its offsets and times. */
function without(
  order: Int32Array,
  offsets: Int32Array,
  times: Float64Array,
  places: readonly number[],
): { order: Int32Array; offsets: Int32Array; times: Float64Array } {
  const kept = new Int32Array(order.length - places.length);
  const keptTimes = new Float64Array(kept.length);
  const shifted = new Int32Array(offsets.length);
  let gone = 0;
  let user = 0;
  for (let at = 0; at <= order.length; at++) {
    while (user < offsets.length && offsets[user] === at) shifted[user++] = at - gone;
    if (at === order.length) break;
    if (places[gone] === at) gone++;
    else {
      kept[at - gone] = order[at];
      keptTimes[at - gone] = times[at];
    }
  }
  return { order: kept, offsets: shifted, times: keptTimes };
}

function isIdentity(order: Int32Array, rows: number): boolean {
  if (order.length !== rows) return false;
  for (let i = 0; i < order.length; i++) if (order[i] !== i) return false;
  return true;
}
