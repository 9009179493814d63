import { describe, expect, test } from '@jest/globals';

import {
  categories,
  EventTokenizer,
  eventSchema,
  item,
  malformedRow,
  MISSING_ID,
  number,
  RowError,
  SchemaError,
  sourceLine,
  time,
  UNKNOWN_ID,
} from '../src/index.js';
import type { EncodedEvents, Row } from '../src/index.js';

const schema = eventSchema({
  user: 'user',
  time: time('time'),
  fields: { film: item('film'), genres: categories('genres'), score: number('score') },
});
const row = (user: unknown, at: unknown, film: unknown, more: Row = {}): Row => ({
  user,
  time: at,
  film,
  genres: ['x'],
  score: 1,
  ...more,
});
const fitted = EventTokenizer.fit(
  schema,
  ['a', 'b', 'c', 'd'].map((film, i) => row('u', i, film, { genres: ['x', 'y'], score: i })),
);
const ids = (events: EncodedEvents, field: string) => Array.from((events.fields[field] as { ids: Int32Array }).ids);

async function films(events: EncodedEvents): Promise<Record<string, string[]>> {
  const names = (await fitted).vocabulary('film');
  const found = ids(events, 'film').map((id) => names[id]);
  return Object.fromEntries(events.users.map((user, u) => [user, found.slice(events.offsets[u], events.offsets[u + 1])]));
}

describe('encode', () => {
  test('groups by user in order of first appearance, sorts by time, and keeps ties in file order', async () => {
    const events = await (
      await fitted
    ).encode([
      row('bob', 5, 'a'),
      row('ann', 9, 'a'),
      row('bob', 2, 'b'),
      row('ann', 9, 'd'),
      row('ann', 9, 'c'),
      row('bob', 5, 'd'),
    ]);
    expect(events.users).toEqual(['bob', 'ann']);
    expect(Array.from(events.offsets)).toEqual([0, 3, 6]);
    expect(Array.from(events.times)).toEqual([2, 5, 5, 9, 9, 9]);
    expect(await films(events)).toEqual({ bob: ['b', 'a', 'd'], ann: ['a', 'd', 'c'] });
    expect(events.counts).toEqual({ rows: 6, events: 6, rejected: 0, outOfOrder: 1, duplicates: 0, unknownItems: 0 });
    expect(events.tokenizer).toBe((await fitted).hash);
  });

  test('sorts long histories stably, and users of many batches', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => row(i % 3, (i * 7919) % 501, 'a', { score: i }));
    const events = await (await fitted).encode(rows);
    const column = events.fields.score;
    if (column.kind !== 'number') throw new Error('score is a number');
    for (let u = 0; u < 3; u++) {
      const expected = rows
        .filter(({ user }) => user === Number(events.users[u]))
        .sort((a, b) => (a.time as number) - (b.time as number))
        .map(({ score }) => score as number);
      const { mean, deviation } = (await fitted).fields.score as { mean: number; deviation: number };
      const got = Array.from(column.values.subarray(events.offsets[u], events.offsets[u + 1]), (value) =>
        Math.round(value * deviation + mean + 0.1),
      );
      expect(got).toEqual(expected);
    }
  });

  test('an unknown time stays behind the event that stood before it', async () => {
    const events = await (
      await fitted
    ).encode([row('u', 9, 'a'), row('u', null, 'b'), row('u', 3, 'c'), row('u', undefined, 'd')]);
    expect(await films(events)).toEqual({ u: ['c', 'd', 'a', 'b'] });
    expect(Array.from(events.times)).toEqual([3, NaN, 9, NaN]);
    expect(events.fields.time).toMatchObject({ kind: 'time', gap: Int32Array.of(3, 3, 3, 3) });
  });

  test('maps unknown and missing values to their ids', async () => {
    const events = await (
      await fitted
    ).encode([
      row('u', 1, 'new', { genres: ['y', 'new', 'newer', ''], score: null }),
      row('u', 2, 'a', { genres: null, score: '' }),
    ]);
    expect(ids(events, 'film')).toEqual([UNKNOWN_ID, 4]);
    expect(events.fields.genres).toEqual({
      kind: 'categories',
      offsets: Int32Array.of(0, 2, 3),
      ids: Int32Array.of(5, UNKNOWN_ID, MISSING_ID),
    });
    expect(events.fields.score).toEqual({
      kind: 'number',
      ids: Int32Array.of(MISSING_ID, MISSING_ID),
      values: Float32Array.of(0, 0),
    });
    expect(events.counts.unknownItems).toBe(1);
  });

  test('numbers fall into their bucket and are standardised; a value beyond the fitted range falls into the last', async () => {
    const events = await (await fitted).encode([-5, 0, 1.5, '3', 99].map((score, i) => row('u', i, 'a', { score })));
    expect(ids(events, 'score')).toEqual([4, 4, 5, 7, 7]);
    const { values } = events.fields.score as { values: Float32Array };
    expect(values[2]).toBeCloseTo(0, 6);
    expect(values[3]).toBeCloseTo(1.5 / Math.sqrt(1.25), 6);
  });

  test('a scalar stays finite, however far a value lies outside what was fitted', async () => {
    const narrow = await EventTokenizer.fit(schema, [row('u', 1, 'a', { score: 0 }), row('u', 2, 'a', { score: 1e-30 })]);
    const events = await narrow.encode([row('u', 1, 'a', { score: 1e30 }), row('u', 2, 'a', { score: -1e30 })]);
    const { values } = events.fields.score as { values: Float32Array };
    expect(values.every(Number.isFinite)).toBe(true);
    expect(values[0]).toBeGreaterThan(1e38);
  });

  test('no row, and no user left, give empty columns', async () => {
    for (const rows of [[], [row('', 1, 'a')]]) {
      const events = await (await fitted).encode(rows);
      expect(events.users).toEqual([]);
      expect(Array.from(events.offsets)).toEqual([0]);
      expect(ids(events, 'film')).toEqual([]);
    }
  });

  test('a schema without a time keeps file order', async () => {
    const timeless = eventSchema({ user: 'user', fields: { film: item('film') } });
    const tokenizer = await EventTokenizer.fit(timeless, [row('u', 1, 'a'), row('u', 1, 'b')]);
    const events = await tokenizer.encode([row('u', 2, 'b'), row('v', 1, 'b'), row('u', 1, 'a'), row('u', 1, 'a')]);
    expect(Object.keys(events.fields)).toEqual(['film']);
    expect(ids(events, 'film')).toEqual([5, 4, 4, 5]);
    expect(events.times.every(Number.isNaN)).toBe(true);
    expect(events.counts.duplicates).toBe(0);
  });
});

describe('bad rows', () => {
  const bad: [Row, string, string][] = [
    [row('', 1, 'a'), 'user', 'the user is missing'],
    [row({}, 1, 'a'), 'user', 'an object cannot name a user'],
    [row('u', 'noon', 'a'), 'time', '"noon" is not a number'],
    [row('u', 1e12, 'a'), 'time', "1000000000000 as seconds is beyond the year 9999; if these are milliseconds, use unit 'ms'"],
    [row('u', 1, undefined), 'film', 'the item is missing'],
    [row('u', 1, ['a']), 'film', 'a list is not a category'],
    [row('u', 1, 'a', { score: 'x'.repeat(60) }), 'score', `"${'x'.repeat(40)}…" is not a finite number`],
    [row('u', 1, 'a', { score: Infinity }), 'score', 'Infinity is not a finite number'],
    [row('u', 1, 'a', { score: '1e99' }), 'score', '"1e99" is beyond the range of a 32-bit float'],
    [row('u', 1, 'a', { score: Symbol('x') }), 'score', 'a symbol is not a finite number'],
    [row('u', 1, 'a', { genres: {} }), 'genres', 'an object is not a list of categories'],
    [row('u', 1, 'a', { genres: ['x', {}] }), 'genres', 'a list is not a list of categories'],
    [null as unknown as Row, '', 'the row is not an object'],
    [{ [malformedRow]: '3 fields where the header has 4' } as Row, '', '3 fields where the header has 4'],
  ];

  test('are quarantined with line, field and reason, and leave the others whole', async () => {
    const rows = bad.flatMap(([entry], i) => [entry, row('u', i, 'b')]);
    const events = await (await fitted).encode(rows);
    expect(events.rejected).toEqual(bad.map(([, field, reason], i) => ({ line: 2 * i + 1, field, kind: 'malformed', reason })));
    expect(events.counts).toMatchObject({ rows: 2 * bad.length, events: bad.length, rejected: bad.length });
    expect(await films(events)).toEqual({ u: Array(bad.length).fill('b') });
    expect(events.times.length).toBe(bad.length);
    expect((events.fields.genres as { ids: Int32Array }).ids.length).toBe(bad.length);
  });

  test('throw under strict, the first in file order first', async () => {
    for (const [entry, field, reason] of bad) {
      const error = await (
        await fitted
      )
        .encode([row('u', 0, 'a'), entry, row('', 1, 'a')], { strict: true })
        .catch((caught: unknown) => caught);
      expect(RowError.isInstance(error)).toBe(true);
      expect(error).toMatchObject({ line: 2, field, reason, kind: 'malformed' });
    }
  });

  test('the line is the one that the reader left in the row', async () => {
    const events = await (await fitted).encode([{ ...row('u', 1, 'a', { score: 'x' }), [sourceLine]: 42 } as Row]);
    expect(events.rejected[0].line).toBe(42);
  });

  test('are counted beyond the most that are listed, over batches', async () => {
    const rows = Array.from({ length: 3000 }, (_, i) => row('u', i, i % 2 ? 'a' : null));
    const events = await (await fitted).encode(rows, { maxRejections: 600 });
    expect(events.rejected).toHaveLength(600);
    expect(events.rejected[599].line).toBe(1199);
    expect(events.counts).toMatchObject({ rows: 3000, events: 1500, rejected: 1500 });
  });

  test('a user of refused rows alone does not appear', async () => {
    const events = await (await fitted).encode([row('ann', 'x', 'a'), row('bob', 1, 'a')]);
    expect(events.users).toEqual(['bob']);
  });
});

describe('policies', () => {
  const rows = [
    row('u', 5, 'a'),
    row('u', 3, 'b'),
    row('u', 5, 'a'),
    row('u', 5, 'new'),
    row('u', 5, 'newer'),
    row('u', 5, 'new'),
  ];

  test('by default rows are sorted, kept, mapped to unknown, and counted', async () => {
    const events = await (await fitted).encode(rows);
    expect(await films(events)).toEqual({ u: ['b', 'a', 'a', '[unknown]', '[unknown]', '[unknown]'] });
    expect(events.counts).toEqual({ rows: 6, events: 6, rejected: 0, outOfOrder: 1, duplicates: 2, unknownItems: 3 });
  });

  test('reject takes them out, each with its line and kind; unknown items are told apart', async () => {
    const tokenizer = await fitted;
    const duplicate = await tokenizer.encode(rows, { policies: { duplicate: 'reject' } });
    expect(duplicate.rejected.map(({ line, kind }) => [line, kind])).toEqual([
      [3, 'duplicate'],
      [6, 'duplicate'],
    ]);
    expect(await films(duplicate)).toEqual({ u: ['b', 'a', '[unknown]', '[unknown]'] });
    expect(duplicate.counts).toEqual({ rows: 6, events: 4, rejected: 2, outOfOrder: 1, duplicates: 0, unknownItems: 2 });

    const order = await tokenizer.encode(rows, { policies: { outOfOrder: 'reject' } });
    expect(order.rejected).toMatchObject([{ line: 2, field: 'time', kind: 'out-of-order' }]);
    expect(order.counts.events).toBe(5);

    const unknown = await tokenizer.encode(rows, { policies: { unknownItem: 'reject' } });
    expect(unknown.rejected.map(({ line, reason }) => [line, reason])).toEqual([
      [4, 'the item "new" is not in the vocabulary'],
      [5, 'the item "newer" is not in the vocabulary'],
      [6, 'the item "new" is not in the vocabulary'],
    ]);
    expect(await films(unknown)).toEqual({ u: ['b', 'a', 'a'] });
  });

  test('long runs of one time are searched for duplicates too', async () => {
    const run = Array.from({ length: 40 }, (_, i) => row('u', 1, `film ${i % 30}`));
    const events = await (await fitted).encode(run, { policies: { duplicate: 'reject' } });
    expect(events.rejected.map(({ line }) => line)).toEqual(Array.from({ length: 10 }, (_, i) => 31 + i));
  });

  test('strict throws on each, and a policy named beside it still holds', async () => {
    const tokenizer = await fitted;
    const kinds = async (given: Row[]) =>
      tokenizer.encode(given, { strict: true }).catch((error: unknown) => (error as RowError).kind);
    expect(await kinds([rows[0], rows[1]])).toBe('out-of-order');
    expect(await kinds([rows[0], rows[2]])).toBe('duplicate');
    expect(await kinds([rows[3]])).toBe('unknown-item');
    const lenient = { strict: true, policies: { outOfOrder: 'sort', duplicate: 'keep', unknownItem: 'map' } } as const;
    await expect(tokenizer.encode(rows, lenient)).resolves.toMatchObject({ counts: { events: 6 } });
  });

  test('a policy that does not exist is refused', async () => {
    for (const policies of [{ duplicate: 'drop' as 'keep' }, { duplicates: 'keep' } as object]) {
      const error = await (await fitted).encode([], { policies }).catch((caught: unknown) => caught);
      expect(SchemaError.isInstance(error)).toBe(true);
    }
  });
});

describe('previousTime', () => {
  test('gives new events the gap they would have had', async () => {
    const tokenizer = await fitted;
    const gap = (events: EncodedEvents) => Array.from((events.fields.time as { gap: Int32Array }).gap);
    const [alone, one, map] = await Promise.all([
      tokenizer.encode([row('u', 100, 'a')]),
      tokenizer.encode([row('u', 100, 'a')], { previousTime: 40 }),
      tokenizer.encode([row('u', 100, 'a'), row('v', 100, 'a')], { previousTime: new Map([['v', 99]]) }),
    ]);
    expect(gap(alone)).toEqual([MISSING_ID]);
    expect(gap(one)).toEqual([4 + 6]);
    expect(gap(map)).toEqual([MISSING_ID, 4 + 1]);
  });

  test('an event before it is out of order', async () => {
    const tokenizer = await fitted;
    const late = await tokenizer.encode([row('u', 10, 'a')], { previousTime: 40 });
    expect(late.counts.outOfOrder).toBe(1);
    expect(late.fields.time).toMatchObject({ gap: Int32Array.of(4) });
    const refused = await tokenizer.encode([row('u', 10, 'a'), row('u', 50, 'a')], {
      previousTime: 40,
      policies: { outOfOrder: 'reject' },
    });
    expect(refused.rejected).toMatchObject([{ line: 1, kind: 'out-of-order' }]);
    expect(refused.counts.events).toBe(1);
  });

  test('one time for several users is refused', async () => {
    await expect((await fitted).encode([row('u', 1, 'a'), row('v', 1, 'a')], { previousTime: 0 })).rejects.toMatchObject({
      path: 'previousTime',
    });
  });
});

describe('bags given as lists', () => {
  test('a list that changed since it was last read is read again; a frozen one that rows share is read alike', async () => {
    const tokenizer = await fitted;
    const bag = ['x'];
    const changing = await tokenizer.encode(
      (function* () {
        for (let i = 0; i < 1024; i++) yield row('u', i, 'a', { genres: bag });
        // The rows so far are read together, before the next one is asked for.
        bag[0] = 'y';
        for (let i = 0; i < 1024; i++) yield row('u', 1024 + i, 'a', { genres: bag });
      })(),
    );
    const [x, y] = [tokenizer.id('genres', 'x'), tokenizer.id('genres', 'y')];
    expect(new Set(ids(changing, 'genres').slice(0, 1024))).toEqual(new Set([x]));
    expect(new Set(ids(changing, 'genres').slice(1024))).toEqual(new Set([y]));
    const [one, other] = [Object.freeze(['x']), Object.freeze(['y', 'x'])];
    const shared = await tokenizer.encode([one, other, one].map((genres, i) => row('u', i, 'a', { genres })));
    expect(ids(shared, 'genres')).toEqual([x, y, x, x]);
  });
});
