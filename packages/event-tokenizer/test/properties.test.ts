import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';

import {
  categorical,
  categories,
  concatEvents,
  EventTokenizer,
  eventSchema,
  item,
  number,
  SPECIAL_NAMES,
  takeUsers,
  text,
  time,
} from '../src/index.js';
import type { EncodedEvents, EventColumns, Row } from '../src/index.js';

fc.configureGlobal({ seed: 20240229 });

const schema = eventSchema({
  user: 'user',
  time: time('at'),
  fields: {
    film: item('film'),
    genres: categories('genres'),
    score: number('score', { buckets: 4 }),
    device: categorical('device'),
    note: text('note', { width: 4 }),
  },
});

const word = fc.oneof(
  fc.string({ minLength: 1, maxLength: 4 }),
  fc.constantFrom('a', 'b', 'toString', '__proto__', '[unknown]', '[mask]', '0', '7'),
);
const ordinary = word.filter((value) => !SPECIAL_NAMES.includes(value));
/** Names of special ids never become values. */
const seen = (value: unknown) => (SPECIAL_NAMES.includes(value as string) ? '[unknown]' : value);
const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { freq: 4 });
const rowWith = (film: fc.Arbitrary<string>): fc.Arbitrary<Row> =>
  fc.record({
    user: fc.constantFrom('u', 'v', 'w', '7'),
    at: optional(fc.integer({ min: -1000, max: 5000 })),
    film,
    genres: fc.array(word, { maxLength: 4 }),
    score: optional(
      fc.oneof(fc.integer({ min: -5, max: 5 }), fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 })),
    ),
    device: optional(word),
    note: optional(fc.string({ maxLength: 8 })),
  });
const rowOf = rowWith(ordinary);
const rowsOf = fc.array(rowOf, { minLength: 1, maxLength: 60 });

/** Everything but the scalar of numbers, whose last digits a round trip may change. */
function comparable(events: EventColumns): unknown {
  const { rejected: _rejected, ...rest } = events;
  const { counts: _counts, ...columns } = rest as EncodedEvents;
  const { score, note: _note, ...fields } = columns.fields;
  return { ...columns, fields: { ...fields, score: (score as { ids: Int32Array }).ids } };
}

describe('for any rows', () => {
  test('decoding and encoding again gives the same ids', async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, fc.array(rowWith(word), { maxLength: 60 }), async (known, rows) => {
        const tokenizer = await EventTokenizer.fit(schema, known);
        const events = await tokenizer.encode(rows);
        const again = await tokenizer.encode(tokenizer.decode(events));
        expect(again.rejected).toEqual([]);
        // A bucket's bound may lie closer to a value than float32 can tell; the next property has the numbers.
        const strip = (given: EventColumns) => {
          const { fields, ...others } = comparable(given) as { fields: Record<string, unknown> };
          const { score: _score, ...exact } = fields;
          return { ...others, fields: exact };
        };
        expect(strip(again)).toEqual(strip(events));
      }),
      { numRuns: 60 },
    );
  });

  test('known values come back as they were written', async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, async (given) => {
        const rows = given.map((row, i): Row & { score: number | null } => ({
          ...row,
          at: i,
          score: row.score === null ? null : Math.round(Number(row.score)),
        }));
        const tokenizer = await EventTokenizer.fit(schema, rows);
        const decoded = [...tokenizer.decode(await tokenizer.encode(rows))].sort((a, b) => Number(a.at) - Number(b.at));
        const scores = rows.flatMap(({ score }) => score ?? []);
        const spread = Math.max(...scores) - Math.min(...scores);
        decoded.forEach((row, i) => {
          const { note: _note, score, ...written } = rows[i];
          const { score: restored, ...rest } = row;
          const genres = [...new Set((written.genres as string[]).map(seen))];
          expect(rest).toEqual({ ...written, genres, device: seen(written.device) });
          if (score === null) expect(restored).toBeNull();
          else expect(Math.abs(Number(restored) - score)).toBeLessThanOrEqual(spread * 2 ** -20);
        });
      }),
      { numRuns: 60 },
    );
  });

  test("rows may be in any order among users: each user's events stay the same", async () => {
    await fc.assert(
      fc.asyncProperty(
        rowsOf,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 60, maxLength: 60 }),
        async (rows, draws) => {
          const tokenizer = await EventTokenizer.fit(schema, rows);
          const queues = new Map<unknown, Row[]>();
          for (const row of rows) queues.set(row.user, [...(queues.get(row.user) ?? []), row]);
          const shuffled: Row[] = [];
          for (const draw of draws) {
            const waiting = [...queues.values()].filter((queue) => queue.length > 0);
            if (waiting.length > 0)
              shuffled.push(waiting[Math.min(waiting.length - 1, Math.floor(draw * waiting.length))].shift() as Row);
          }
          expect(shuffled).toHaveLength(rows.length);
          const a = await tokenizer.encode(rows);
          const b = await tokenizer.encode(shuffled);
          expect(b.users.toSorted()).toEqual(a.users.toSorted());
          for (const user of a.users) expect(one(tokenizer, b, user)).toEqual(one(tokenizer, a, user));
        },
      ),
      { numRuns: 60 },
    );
  });

  test('encoding a history in pieces, with the time of the event before, is encoding it at once', async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, fc.nat(60), fc.nat(60), async (given, first, second) => {
        const rows = given.map((row, i) => ({ ...row, user: i % 2 ? 'u' : 'v', at: i * i }));
        const tokenizer = await EventTokenizer.fit(schema, rows);
        const cuts = [0, Math.min(first, second, rows.length), Math.min(Math.max(first, second), rows.length), rows.length];
        const latest = new Map<string, number>();
        const parts: EventColumns[] = [];
        for (let i = 0; i < 3; i++) {
          const part = await tokenizer.encode(rows.slice(cuts[i], cuts[i + 1]), { previousTime: latest });
          part.users.forEach((user, u) => latest.set(user, part.times[part.offsets[u + 1] - 1]));
          parts.push(part);
        }
        expect(comparable(concatEvents(parts))).toEqual(comparable(await tokenizer.encode(rows)));
      }),
      { numRuns: 60 },
    );
  });

  test('the hash survives JSON, and fitting the same rows gives the same hash', async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, fc.integer({ min: 1, max: 3 }), async (rows, size) => {
        const options = { minCount: { genres: 2 }, maxSize: size };
        const tokenizer = await EventTokenizer.fit(schema, rows, options);
        const loaded = EventTokenizer.fromJSON(JSON.parse(JSON.stringify(tokenizer)));
        expect(loaded.hash).toBe(tokenizer.hash);
        expect(await loaded.encode(rows)).toEqual(await tokenizer.encode(rows));
        expect((await EventTokenizer.fit(schema, [rows], options)).hash).toBe(tokenizer.hash);
      }),
      { numRuns: 40 },
    );
  });

  test('every row is an event or a rejection, and every id lies in its field', async () => {
    const anything = fc.array(
      fc.oneof(
        rowOf,
        fc.record({
          user: fc.anything(),
          at: fc.anything(),
          film: fc.anything(),
          genres: fc.anything(),
          score: fc.anything(),
          device: fc.anything(),
          note: fc.anything(),
        }),
        fc.anything() as fc.Arbitrary<Row>,
      ),
      { maxLength: 40 },
    );
    await fc.assert(
      fc.asyncProperty(rowsOf, anything, async (known, rows) => {
        const tokenizer = await EventTokenizer.fit(schema, known);
        const source = rows.filter((row) => !Array.isArray(row));
        const events = await tokenizer.encode(source);
        const { counts } = events;
        expect(counts.rows).toBe(source.length);
        expect(counts.events + counts.rejected).toBe(counts.rows);
        expect(events.rejected).toHaveLength(counts.rejected);
        expect(events.offsets.at(-1)).toBe(counts.events);
        for (const name of ['film', 'genres', 'score', 'device']) {
          const info = tokenizer.fields[name] as { size: number };
          const { ids } = events.fields[name] as { ids: Int32Array };
          expect(ids.every((id) => id >= 2 && id < info.size)).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });
});

function one(tokenizer: EventTokenizer, events: EventColumns, user: string): Row[] {
  return [...tokenizer.decode(takeUsers(events, [user]))];
}
