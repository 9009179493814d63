import type { CategoricalBuilder, ColumnBuilder } from './column-builders.js';

import type { Column, EncodedEvents, Rejection } from './columns.js';
import { SchemaError } from './errors.js';
import type { RowProgress } from './fit.js';
import { userReason } from './fit.js';
import { Float64List, Int32List } from './growing.js';
import { resolvePolicies, RowChecks } from './row-checks.js';
import type { RowPolicies } from './row-checks.js';
import { forEachBatch, lineOf } from './row-source.js';
import type { RowBatch, Rows } from './row-source.js';
import type { EventSchema } from './schema.js';
import { sortByUserAndTime } from './sort-users.js';
import { timeFeatures } from './time-features.js';
import { readTime, timeReason, UNREADABLE } from './values.js';

export interface EncodeOptions {
  /** What to do with rows that are not as they should be. */
  policies?: Partial<RowPolicies>;
  /** Throw on the first row that any policy would sort, keep, map or reject; `policies` named beside it still hold. */
  strict?: boolean;
  /**
   * Time (as in `EventColumns.times`) of the event before the first one given, so that new events of known users get the gap they would have
   * had in one encoding: by user, or one number where all rows are of one user.
   */
  previousTime?: number | ReadonlyMap<string, number>;
  /** Most rejections listed in `rejected`, the first by line; all are counted. Default 10,000. */
  maxRejections?: number;
  signal?: AbortSignal;
  /** Called after every batch of rows. */
  onProgress?: (progress: RowProgress) => void;
}

/** What encoding needs of a tokenizer. */
export interface Encoder {
  readonly hash: string;
  readonly schema: EventSchema;
  /** Fresh builders, by field name. */
  builders(): Record<string, ColumnBuilder>;
  readonly itemField: string;
}

/** Numbers the users of accepted rows, and keeps the latest time of each. */
class UserBuilder {
  readonly users: string[] = [];
  readonly ids = new Int32List();
  readonly latest = new Float64List();
  outOfOrder = 0;
  private readonly lookup = new Map<unknown, number>();

  constructor(
    private readonly column: string,
    private readonly timeColumn: string,
    private readonly previousTime: EncodeOptions['previousTime'],
  ) {}

  previous(user: string): number {
    const { previousTime } = this;
    return typeof previousTime === 'object' ? (previousTime.get(user) ?? NaN) : (previousTime ?? NaN);
  }

  /** Appends the users of the rows that are not flagged; `times` holds the batch's times from `start` on. */
  append({ rows, count }: RowBatch, checks: RowChecks, times: Float64Array, start: number): void {
    const { column, lookup, ids, latest } = this;
    const { flags } = checks;
    const sorts = checks.policies.outOfOrder === 'sort';
    const data = ids.reserve(count);
    let at = ids.length;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const raw = rows[i][column];
      let user = lookup.get(raw);
      const time = times[start + i];
      if (user === undefined) {
        user = this.meet(raw, i, checks, time);
        if (user < 0) continue;
      }
      if (time < latest.data[user]) {
        if (!sorts) {
          this.refuse(i, checks);
          continue;
        }
        this.outOfOrder++;
      } else if (time === time) latest.data[user] = time;
      data[at++] = user;
    }
    ids.length = at;
  }

  private refuse(i: number, checks: RowChecks): void {
    checks.flag(i, this.timeColumn, 'out-of-order', "the row is earlier than another of the same user's that came before it");
  }

  /** The number of a user seen in this form for the first time; -1 where the row cannot be taken. */
  private meet(raw: unknown, i: number, checks: RowChecks, time: number): number {
    const named = typeof raw === 'string' ? raw !== '' : typeof raw === 'number' ? Number.isFinite(raw) : typeof raw === 'bigint';
    if (!named) {
      checks.flag(i, this.column, 'malformed', userReason(raw));
      return -1;
    }
    const name = String(raw);
    let user = this.lookup.get(name);
    if (user === undefined) {
      const previous = this.previous(name);
      if (time < previous && checks.policies.outOfOrder !== 'sort') {
        this.refuse(i, checks);
        return -1;
      }
      user = this.users.length;
      if (user === 1 && typeof this.previousTime === 'number')
        throw new SchemaError(
          'previousTime',
          'one time was given and the rows are of several users. Give a map from user to time.',
        );
      this.users.push(name);
      this.lookup.set(name, user);
      this.latest.push(previous === previous ? previous : -Infinity);
    }
    this.lookup.set(raw, user);
    return user;
  }
}

/** Runs of equal times up to this length are compared pair by pair. */
const SHORT_RUN = 16;

/** Places (in `order`) of events that repeat the user, time and item of an earlier one. */
function findDuplicates(order: Int32Array, offsets: Int32Array, times: Float64Array, items: Int32Array): number[] {
  const found: number[] = [];
  for (let user = 0; user + 1 < offsets.length; user++) {
    const end = offsets[user + 1];
    for (let from = offsets[user]; from < end;) {
      const time = times[order[from]];
      let to = from + 1;
      while (to < end && times[order[to]] === time) to++;
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

/** Leaves the given places (ascending) out of an order and its offsets. */
function without(order: Int32Array, offsets: Int32Array, places: readonly number[]): { order: Int32Array; offsets: Int32Array } {
  const kept = new Int32Array(order.length - places.length);
  const shifted = new Int32Array(offsets.length);
  let gone = 0;
  let user = 0;
  for (let at = 0; at <= order.length; at++) {
    while (user < offsets.length && offsets[user] === at) shifted[user++] = at - gone;
    if (at === order.length) break;
    if (places[gone] === at) gone++;
    else kept[at - gone] = order[at];
  }
  return { order: kept, offsets: shifted };
}

function isIdentity(order: Int32Array, rows: number): boolean {
  if (order.length !== rows) return false;
  for (let i = 0; i < order.length; i++) if (order[i] !== i) return false;
  return true;
}

/** Reads all rows once, applies the policies, and lays the events out by user and time. */
export async function encodeRows(encoder: Encoder, source: Rows, options: EncodeOptions): Promise<EncodedEvents> {
  const { schema, itemField } = encoder;
  const { maxRejections = 10_000, signal, onProgress, previousTime } = options;
  const policies = resolvePolicies(options.policies, options.strict);
  const checks = new RowChecks(policies, maxRejections);
  const builders = encoder.builders();
  const columns = Object.values(builders);
  const users = new UserBuilder(schema.user, schema.time?.column ?? '', previousTime);
  const times = new Float64List();
  // Lines are only needed again where duplicates, which show after sorting, are refused.
  const lines = policies.duplicate === 'keep' ? undefined : new Float64List();
  let rows = 0;

  await forEachBatch(
    source,
    async (batch) => {
      checks.begin(batch);
      const start = times.length;
      appendTimes(batch, schema, times, checks);
      for (const column of columns) column.append(batch, checks);
      users.append(batch, checks, times.data, start);
      // A row that throws must throw before texts are embedded.
      checks.end();
      if (checks.flagged > 0) times.dropFlagged(start, checks.flags);
      if (lines) for (let i = 0; i < batch.count; i++) if (checks.flags[i] === 0) lines.push(lineOf(batch, i));
      for (const column of columns) {
        const settling = column.settle(batch, checks);
        if (settling !== undefined) await settling;
      }
      rows += batch.count;
      onProgress?.({ rows, rejected: checks.rejectedCount });
    },
    signal,
  );

  const userOf = users.ids.data.subarray(0, users.ids.length);
  let { order, offsets } = sortByUserAndTime(userOf, times.data, users.users.length);
  const items = (builders[itemField] as CategoricalBuilder).ids.data;
  const duplicates = schema.time ? findDuplicates(order, offsets, times.data, items) : [];
  if (lines && duplicates.length > 0) {
    const found = duplicates.map((place): Rejection => ({
      line: lines.data[order[place]],
      field: schema.fields[itemField].column,
      kind: 'duplicate',
      reason: 'the row repeats the user, time and item of an earlier row',
    }));
    for (const rejection of found.sort((a, b) => a.line - b.line)) checks.reject(rejection);
    checks.rejected.sort((a, b) => a.line - b.line);
    ({ order, offsets } = without(order, offsets, duplicates));
  }

  const sorting = isIdentity(order, userOf.length) ? undefined : order;
  const events = order.length;
  let unknownItems = 0;
  for (let i = 0; i < events; i++) if (items[order[i]] < 0) unknownItems++;
  const fields: Record<string, Column> = {};
  const sortedTimes = new Float64Array(events);
  for (let i = 0; i < events; i++) sortedTimes[i] = times.data[order[i]];
  if (schema.time) {
    const previous = Float64Array.from(users.users, (user) => users.previous(user));
    fields.time = timeFeatures(sortedTimes, offsets, previous, schema.time);
  }
  for (const [name, builder] of Object.entries(builders)) {
    fields[name] = builder.finish(sorting);
    // The grown arrays are released field by field: the peak is one column above the result.
    delete builders[name];
    columns.shift();
  }
  return {
    tokenizer: encoder.hash,
    users: users.users,
    offsets,
    times: sortedTimes,
    fields,
    rejected: checks.rejected,
    counts: {
      rows,
      events,
      rejected: checks.rejectedCount,
      outOfOrder: users.outOfOrder,
      duplicates: lines ? 0 : duplicates.length,
      unknownItems,
    },
  };
}

function appendTimes({ rows, count }: RowBatch, schema: EventSchema, times: Float64List, checks: RowChecks): void {
  const data = times.reserve(count);
  let at = times.length;
  if (schema.time === undefined) data.fill(NaN, at, at + count);
  else {
    const { column, unit } = schema.time;
    for (let i = 0; i < count; i++) {
      const time = readTime(rows[i][column], unit);
      if (time === UNREADABLE) checks.flag(i, column, 'malformed', timeReason(rows[i][column], unit));
      data[at++] = time;
    }
  }
  times.length += count;
}
