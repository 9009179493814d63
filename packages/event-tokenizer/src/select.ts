import type { Column, EventColumns } from './columns.js';
import { NO_COLUMNS, SchemaError, TokenizerMismatchError, UnknownUserError } from './errors.js';

/** Events of one source, `start` to `end`, that go to one user of the result. */
interface Range {
  readonly source: EventColumns;
  readonly start: number;
  readonly end: number;
}

function checkColumns(events: EventColumns): void {
  if (!Array.isArray(events.users)) throw new SchemaError('events', NO_COLUMNS);
}

const indexes = new WeakMap<readonly string[], Map<string, number>>();

/** User to index in `events.users`; built once per columns. */
export function userIndex(events: EventColumns): ReadonlyMap<string, number> {
  checkColumns(events);
  let index = indexes.get(events.users);
  if (index === undefined) {
    index = new Map(events.users.map((user, u) => [user, u]));
    indexes.set(events.users, index);
  }
  return index;
}

/** The users at indices `from` (inclusive) to `to` (exclusive; to the last when left out), with all their events. */
export function sliceUsers(events: EventColumns, from: number, to: number = events.users.length): EventColumns {
  if (!Number.isInteger(from) || from < 0 || from > events.users.length) throw new UnknownUserError(from, events.users.length);
  if (!Number.isInteger(to) || to < from || to > events.users.length) throw new UnknownUserError(to, events.users.length);
  return assemble(
    events,
    events.users.slice(from, to),
    Array.from({ length: to - from }, (_, i) => [whole(events, from + i)]),
  );
}

/**
 * The given users, by name or by index, in the given order.
 *
 * @throws UnknownUserError
 */
export function takeUsers(events: EventColumns, users: readonly string[] | readonly number[]): EventColumns {
  const index = userIndex(events);
  const places = users.map((user) => {
    const place = typeof user === 'string' ? index.get(user) : user;
    if (place === undefined || !Number.isInteger(place) || place < 0 || place >= events.users.length)
      throw new UnknownUserError(user, events.users.length);
    return place;
  });
  return assemble(
    events,
    places.map((place) => events.users[place]),
    places.map((place) => [whole(events, place)]),
  );
}

/** Everything but each user's last `count` events (leave-n-out). A user with no more than that stays, with no event. */
export function dropLast(events: EventColumns, count: number): EventColumns {
  checkCount(count);
  return perUser(events, (start, end) => [start, Math.max(start, end - count)]);
}

/** Each user's last `count` events. A first event keeps its gap to the one before it. */
export function takeLast(events: EventColumns, count: number): EventColumns {
  checkCount(count);
  return perUser(events, (start, end) => [Math.max(start, end - count), end]);
}

/**
 * The users and events of all parts. A user of several parts gets the events in the order of the parts, which should be their order in time.
 *
 * @throws TokenizerMismatchError for parts of several tokenizers; SchemaError for no part
 */
export function concatEvents(parts: readonly EventColumns[]): EventColumns {
  if (parts.length === 0) throw new SchemaError('parts', 'there is nothing to join. Give one part or more.');
  const ranges = new Map<string, Range[]>();
  for (const part of parts) {
    if (part.tokenizer !== parts[0].tokenizer) throw new TokenizerMismatchError(parts[0].tokenizer, part.tokenizer);
    part.users.forEach((user, u) => {
      const known = ranges.get(user);
      if (known) known.push(whole(part, u));
      else ranges.set(user, [whole(part, u)]);
    });
  }
  return assemble(parts[0], [...ranges.keys()], [...ranges.values()]);
}

function checkCount(count: number): void {
  if (!Number.isInteger(count) || count < 0) throw new SchemaError('count', `${count} is not a number of events.`);
}

function whole(source: EventColumns, user: number): Range {
  return { source, start: source.offsets[user], end: source.offsets[user + 1] };
}

function perUser(events: EventColumns, cut: (start: number, end: number) => [number, number]): EventColumns {
  checkColumns(events);
  const ranges = events.users.map((_, u): Range[] => {
    const [start, end] = cut(events.offsets[u], events.offsets[u + 1]);
    return [{ source: events, start, end }];
  });
  return assemble(events, events.users.slice(), ranges);
}

/** Copies ranges of events into new columns. Rejected rows belong to an encoding and are not carried over. */
function assemble(like: EventColumns, users: string[], perUserRanges: readonly (readonly Range[])[]): EventColumns {
  const offsets = new Int32Array(users.length + 1);
  perUserRanges.forEach((ranges, u) => {
    offsets[u + 1] = ranges.reduce((sum, { start, end }) => sum + end - start, offsets[u]);
  });
  const ranges = perUserRanges.flat();
  const events = offsets[users.length];
  const times = new Float64Array(events);
  let at = 0;
  for (const { source, start, end } of ranges) {
    times.set(source.times.subarray(start, end), at);
    at += end - start;
  }
  const fields: Record<string, Column> = {};
  for (const name of Object.keys(like.fields)) {
    fields[name] = assembleColumn(
      like.fields[name],
      ranges.map(({ source, start, end }) => ({ column: source.fields[name], start, end })),
      events,
    );
  }
  return { tokenizer: like.tokenizer, users, offsets, times, fields, rejected: [] };
}

interface Piece {
  readonly column: Column;
  readonly start: number;
  readonly end: number;
}

function copyIds(pieces: readonly Piece[], events: number, ids: (column: Column) => Int32Array): Int32Array {
  const out = new Int32Array(events);
  let at = 0;
  for (const { column, start, end } of pieces) {
    out.set(ids(column).subarray(start, end), at);
    at += end - start;
  }
  return out;
}

function copyFloats(
  pieces: readonly Piece[],
  events: number,
  width: number,
  floats: (column: Column) => Float32Array,
): Float32Array {
  const out = new Float32Array(events * width);
  let at = 0;
  for (const { column, start, end } of pieces) {
    out.set(floats(column).subarray(start * width, end * width), at);
    at += (end - start) * width;
  }
  return out;
}

function as<Kind extends Column['kind']>(column: Column, kind: Kind): Extract<Column, { kind: Kind }> {
  if (column?.kind !== kind) throw new Error(`internal: a ${column?.kind} column where one tokenizer gives ${kind}`);
  return column as Extract<Column, { kind: Kind }>;
}

function assembleColumn(like: Column, pieces: readonly Piece[], events: number): Column {
  switch (like.kind) {
    case 'categorical':
      return { kind: 'categorical', ids: copyIds(pieces, events, (column) => as(column, 'categorical').ids) };
    case 'number':
      return {
        kind: 'number',
        ids: copyIds(pieces, events, (column) => as(column, 'number').ids),
        values: copyFloats(pieces, events, 1, (column) => as(column, 'number').values),
      };
    case 'time':
      return {
        kind: 'time',
        gap: copyIds(pieces, events, (column) => as(column, 'time').gap),
        hour: copyIds(pieces, events, (column) => as(column, 'time').hour),
        weekday: copyIds(pieces, events, (column) => as(column, 'time').weekday),
      };
    case 'text': {
      const { width } = like;
      return { kind: 'text', width, vectors: copyFloats(pieces, events, width, (column) => as(column, 'text').vectors) };
    }
    case 'categories':
      return assembleBags(pieces, events);
    default:
      throw new Error(`internal: no copy of ${(like satisfies never as Column).kind}`);
  }
}

function assembleBags(pieces: readonly Piece[], events: number): Column {
  const offsets = new Int32Array(events + 1);
  let event = 0;
  for (const { column, start, end } of pieces) {
    const bags = as(column, 'categories').offsets;
    for (let e = start; e < end; e++, event++) offsets[event + 1] = offsets[event] + bags[e + 1] - bags[e];
  }
  const ids = new Int32Array(offsets[events]);
  let at = 0;
  for (const { column, start, end } of pieces) {
    const bag = as(column, 'categories');
    ids.set(bag.ids.subarray(bag.offsets[start], bag.offsets[end]), at);
    at += bag.offsets[end] - bag.offsets[start];
  }
  return { kind: 'categories', offsets, ids };
}
