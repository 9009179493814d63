import { beforeAll, describe, expect, test } from '@jest/globals';

import {
  categories,
  concatEvents,
  dropLast,
  EventTokenizer,
  eventSchema,
  item,
  number,
  sliceUsers,
  takeLast,
  takeUsers,
  text,
  time,
  TokenizerMismatchError,
  UnknownUserError,
  userIndex,
} from '../src/index.js';
import type { EncodedEvents, EventColumns, Row } from '../src/index.js';

const schema = eventSchema({
  user: 'user',
  time: time('at'),
  fields: { film: item('film'), genres: categories('genres'), score: number('score'), note: text('note', { width: 4 }) },
});
const lengths: Record<string, number> = { ann: 5, bob: 1, cat: 3 };
const rows: Row[] = Object.entries(lengths).flatMap(([user, length]) =>
  Array.from({ length }, (_, i) => ({
    user,
    at: i * i,
    film: `${user} ${i}`,
    genres: ['a', 'b', 'c'].slice(0, i % 4),
    score: i,
    note: `note ${i}`,
  })),
);

let tokenizer: EventTokenizer;
let events: EncodedEvents;
beforeAll(async () => {
  tokenizer = await EventTokenizer.fit(schema, rows);
  events = await tokenizer.encode(rows);
});

/** All columns of each user, so that views can be compared. */
const perUser = (given: EventColumns) =>
  [...tokenizer.decode(given)].map((row) => `${String(row.user)} ${String(row.at)} ${String(row.film)}`);
const expected = (keep: (row: Row, i: number) => boolean) => {
  const kept: string[] = [];
  for (const user of Object.keys(lengths))
    rows.filter((row) => row.user === user).forEach((row, i) => keep(row, i) && kept.push(`${user} ${row.at} ${row.film}`));
  return kept;
};

describe('views of columns', () => {
  test('userIndex finds users', () => {
    expect([...userIndex(events)]).toEqual([
      ['ann', 0],
      ['bob', 1],
      ['cat', 2],
    ]);
    expect(userIndex(events)).toBe(userIndex(events));
  });

  test('dropLast leaves n out, and keeps a user without events', () => {
    const view = dropLast(events, 1);
    expect(view.users).toEqual(events.users);
    expect(Array.from(view.offsets)).toEqual([0, 4, 4, 6]);
    expect(perUser(view)).toEqual(expected(({ user }, i) => i < lengths[user as string] - 1));
    expect(dropLast(events, 99).times).toHaveLength(0);
  });

  test('takeLast keeps the last n with their gaps', () => {
    const view = takeLast(events, 2);
    expect(Array.from(view.offsets)).toEqual([0, 2, 3, 5]);
    expect(perUser(view)).toEqual(expected(({ user }, i) => i >= lengths[user as string] - 2));
    const gaps = (given: EventColumns) => Array.from((given.fields.time as { gap: Int32Array }).gap);
    expect(gaps(view).slice(0, 2)).toEqual(gaps(events).slice(3, 5));
  });

  test('takeUsers and sliceUsers equal encoding those rows', async () => {
    const { counts: _counts, ...cat } = await tokenizer.encode(rows.filter(({ user }) => user === 'cat'));
    expect(takeUsers(events, ['cat'])).toEqual(cat);
    expect(takeUsers(events, [2])).toEqual(cat);
    expect(sliceUsers(events, 2)).toEqual(cat);
    expect(takeUsers(events, ['cat', 'ann']).users).toEqual(['cat', 'ann']);
    expect(sliceUsers(events, 0, 2).users).toEqual(['ann', 'bob']);
    expect(sliceUsers(events, 1, 1).times).toHaveLength(0);
  });

  test('concatEvents puts parts together again', async () => {
    const { counts: _counts, ...all } = events;
    expect(concatEvents([sliceUsers(events, 0, 1), sliceUsers(events, 1)])).toEqual(all);
    expect(concatEvents([dropLast(events, 2), takeLast(events, 2)])).toEqual(all);
  });

  test('refuse users and counts that are not there, and mixed tokenizers', async () => {
    for (const wrong of [
      () => takeUsers(events, ['dan']),
      () => takeUsers(events, [3]),
      () => sliceUsers(events, -1),
      () => sliceUsers(events, 2, 1),
    ])
      expect(wrong).toThrow(expect.objectContaining({ name: 'UnknownUserError' }));
    expect(UnknownUserError.isInstance({})).toBe(false);
    expect(() => dropLast(events, -1)).toThrow('-1 is not a number of events');
    expect(() => concatEvents([])).toThrow('nothing to join');
    const tokenizer = await EventTokenizer.fit(schema, rows);
    for (const none of [rows, tokenizer.encode(rows)] as unknown as EventColumns[])
      for (const read of [
        () => dropLast(none, 1),
        () => takeLast(none, 1),
        () => userIndex(none),
        () => takeUsers(none, ['ann']),
        () => concatEvents([events, none]),
        () => tokenizer.decode(none),
      ])
        expect(read).toThrow('These are no encoded events. Encode the rows first: await tokenizer.encode(rows).');
    const other = await EventTokenizer.fit(schema, rows.slice(1));
    const error = await other.encode(rows).then((mixed) => {
      try {
        return concatEvents([events, mixed]);
      } catch (caught) {
        return caught;
      }
    });
    expect(TokenizerMismatchError.isInstance(error)).toBe(true);
  });
});
