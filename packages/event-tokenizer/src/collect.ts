import type { ColumnBuilder } from './column-builders.js';
import { SchemaError } from './errors.js';
import { userReason } from './fit.js';
import type { RowProgress } from './fit.js';
import type { RawEvents } from './gather.js';
import { Float64List, Int32List } from './growing.js';
import { resolvePolicies, RowChecks } from './row-checks.js';
import type { RowPolicies } from './row-checks.js';
import type { RowBatch } from './row-source.js';
import type { EventSchema } from './schema.js';
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
  append(batch: RowBatch, checks: RowChecks, times: Float64Array, start: number): void {
    const { column, lookup, ids } = this;
    const { flags } = checks;
    const { count } = batch;
    const values = batch.values(column);
    const sorts = checks.policies.outOfOrder === 'sort';
    const data = ids.reserve(count);
    let latest = this.latest.data;
    let at = ids.length;
    for (let i = 0; i < count; i++) {
      if (flags[i] !== 0) continue;
      const raw = values[i];
      let user = lookup.get(raw);
      const time = times[start + i];
      if (user === undefined) {
        user = this.meet(raw, i, checks, time);
        if (user < 0) continue;
        latest = this.latest.data;
      }
      if (time < latest[user]) {
        if (!sorts) {
          this.refuse(i, checks);
          continue;
        }
        this.outOfOrder++;
      } else if (time === time) latest[user] = time;
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
    if (typeof raw !== 'string') this.lookup.set(raw, user);
    return user;
  }
}

/** Reads rows into columns in file order, and applies every policy but that of duplicates, which show after sorting. */
export class EventCollector {
  readonly checks: RowChecks;
  readonly schema: EventSchema;
  rows = 0;
  private readonly users: UserBuilder;
  private readonly times = new Float64List();
  /** Lines are only needed again where duplicates are refused. */
  private readonly lines: Float64List | undefined;
  private readonly builders: Record<string, ColumnBuilder>;
  private readonly columns: readonly ColumnBuilder[];
  private readonly texts: readonly ColumnBuilder[];

  constructor(
    encoder: Encoder,
    { policies, strict, maxRejections = 10_000, previousTime, onProgress }: EncodeOptions,
    private readonly progress = onProgress,
  ) {
    this.schema = encoder.schema;
    this.checks = new RowChecks(resolvePolicies(policies, strict), maxRejections);
    this.users = new UserBuilder(this.schema.user, this.schema.time?.column ?? '', previousTime);
    this.lines = this.checks.policies.duplicate === 'keep' ? undefined : new Float64List();
    this.builders = encoder.builders();
    this.columns = Object.values(this.builders);
    this.texts = this.columns.filter(({ embed }) => embed !== undefined);
  }

  /** Names of the users so far, in order of first appearance. */
  get userNames(): string[] {
    return this.users.users;
  }

  get outOfOrder(): number {
    return this.users.outOfOrder;
  }

  /** Events held. */
  get events(): number {
    return this.users.ids.length;
  }

  /** Time of the event before the first one of each of these users, NaN for none. */
  previousTimes(from: number, to: number): Float64Array {
    return Float64Array.from(this.users.users.slice(from, to), (user) => this.users.previous(user));
  }

  /** A promise only where texts are embedded. */
  add(batch: RowBatch): void | Promise<void> {
    const { checks, times, lines, columns } = this;
    checks.begin(batch);
    const start = times.length;
    this.appendTimes(batch);
    for (const column of columns) column.append(batch, checks);
    this.users.append(batch, checks, times.data, start);
    // A row that throws must throw before texts are embedded.
    checks.end();
    if (checks.flagged > 0) times.dropFlagged(start, checks.flags);
    if (lines) for (let i = 0; i < batch.count; i++) if (checks.flags[i] === 0) lines.push(batch.line(i));
    for (const column of columns) column.settle(batch, checks);
    this.rows += batch.count;
    if (this.texts.length > 0) return this.embed(batch);
    this.progress?.({ rows: this.rows, rejected: checks.rejectedCount });
  }

  /** The events held, without a copy: valid until more are added. */
  view(): RawEvents {
    return {
      userOf: this.users.ids.view(),
      times: this.times.view(),
      lines: this.lines?.view(),
      fields: Object.fromEntries(Object.entries(this.builders).map(([name, builder]) => [name, builder.view()])),
    };
  }

  /** Lets go of the events held, and keeps the room for more. */
  clear(): void {
    this.users.ids.length = 0;
    this.times.length = 0;
    if (this.lines) this.lines.length = 0;
    for (const column of this.columns) column.clear();
  }

  private async embed(batch: RowBatch): Promise<void> {
    for (const text of this.texts) await text.embed?.(batch, this.checks);
    this.progress?.({ rows: this.rows, rejected: this.checks.rejectedCount });
  }

  private appendTimes(batch: RowBatch): void {
    const { times, schema, checks } = this;
    const { count } = batch;
    const data = times.reserve(count);
    let at = times.length;
    if (schema.time === undefined) data.fill(NaN, at, at + count);
    else {
      const { column, unit } = schema.time;
      const values = batch.values(column);
      for (let i = 0; i < count; i++) {
        const time = readTime(values[i], unit);
        if (time === UNREADABLE) checks.flag(i, column, 'malformed', timeReason(values[i], unit));
        data[at++] = time;
      }
    }
    times.length += count;
  }
}
