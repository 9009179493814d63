import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';

import {
  categorical,
  categories,
  ColumnFolder,
  ColumnFolderError,
  concatEvents,
  EventTokenizer,
  eventSchema,
  item,
  malformedRow,
  number,
  RowColumns,
  RowError,
  SchemaError,
  sliceUsers,
  sourceLine,
  text,
  time,
  TokenizerMismatchError,
  UnknownUserError,
} from '../src/index.js';
import type { EncodeChunksOptions, EncodedEvents, EncodeSummary, EventColumns, Row, Rows } from '../src/index.js';

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
const row = (i: number): Row => ({
  user: `user ${(i * 7) % 11}`,
  at: (i * 37) % 101,
  film: `film ${i % 5}`,
  genres: ['x', 'y', 'z'].slice(0, i % 4),
  score: i % 9,
  device: i % 3 ? 'phone' : null,
  note: 'n'.repeat(i % 6),
});
const rows = Array.from({ length: 200 }, (_, i) => row(i));
const fitted = EventTokenizer.fit(schema, rows);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'column-folder-'));
});
afterAll(() => rm(folder, { recursive: true }));
let named = 0;
const fresh = () => path.join(folder, `f${named++}`);

async function gather(
  tokenizer: EventTokenizer,
  source: Rows,
  options: EncodeChunksOptions,
): Promise<{ chunks: EventColumns[]; summary: EncodeSummary }> {
  const chunks: EventColumns[] = [];
  const encoding = tokenizer.encodeChunks(source, options);
  for await (const chunk of encoding) chunks.push(chunk);
  return { chunks, summary: encoding.summary };
}

const columnsOf = ({ tokenizer, users, offsets, times, fields }: EventColumns) => ({ tokenizer, users, offsets, times, fields });
const summaryOf = ({ counts, rejected }: EncodedEvents) => ({ counts, rejected });

/** Rows with all that can be wrong with them. */
const anyRow: fc.Arbitrary<Row> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      user: fc.constantFrom<unknown>('u', 'v', 'w', 7, '7', '\ud800', 'é'),
      at: fc.oneof({ weight: 5, arbitrary: fc.nat(20) }, { weight: 1, arbitrary: fc.constant(null) }),
      film: fc.constantFrom('film 0', 'film 1', 'never seen', 'nor this'),
      genres: fc.oneof(fc.subarray(['x', 'y', 'unheard of']), fc.constantFrom('x|y', 'z', 'y|unheard of|y', '', null)),
      score: fc.oneof({ weight: 5, arbitrary: fc.nat(9) }, { weight: 1, arbitrary: fc.constant('many') }),
      device: fc.constantFrom('phone', null),
      note: fc.constantFrom('nn', null),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom<Row>({ [malformedRow]: 'it is cut' }, {}, { user: 'u' }, null as unknown as Row) },
);
const policies = fc.record(
  {
    outOfOrder: fc.constantFrom('sort' as const, 'reject' as const),
    duplicate: fc.constantFrom('keep' as const, 'reject' as const),
    unknownItem: fc.constantFrom('map' as const, 'reject' as const),
  },
  { requiredKeys: [] },
);

describe('chunks', () => {
  test('together they are what encoding at once gives, whatever the rows and the size', async () => {
    const tokenizer = await fitted;
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyRow, { maxLength: 80 }),
        fc.integer({ min: 1, max: 40 }),
        policies,
        fc.integer({ min: 0, max: 5 }),
        fc.integer({ min: 1, max: 30 }),
        async (given, eventsPerChunk, chosen, maxRejections, batch) => {
          const lists = Array.from({ length: Math.ceil(given.length / batch) }, (_, i) =>
            given.slice(i * batch, (i + 1) * batch),
          );
          const options = { policies: chosen, maxRejections, previousTime: new Map([['u', 10]]) };
          const whole = await tokenizer.encode(lists, options);
          // One row at a time would be one batch: blocks are batches of their own, so that several runs go to disk.
          const blocks = lists.map((list) => {
            const usable = list.map((one) => (one === null ? {} : one));
            return new RowColumns({
              length: list.length,
              columns: Object.fromEntries(
                ['user', 'at', 'film', 'genres', 'score', 'device', 'note'].map((name) => [name, usable.map((one) => one[name])]),
              ),
              problems: new Map(
                list.flatMap((one, i): [number, string][] =>
                  one === null ? [[i, 'the row is not an object']] : malformedRow in one ? [[i, 'it is cut']] : [],
                ),
              ),
            });
          });
          const { chunks, summary } = await gather(tokenizer, blocks, { ...options, eventsPerChunk });
          expect(summary).toEqual(summaryOf(whole));
          if (chunks.length > 0) expect(columnsOf(concatEvents(chunks))).toEqual(columnsOf(whole));
          else expect(whole.users).toEqual([]);
          for (const { users, times } of chunks)
            if (users.length > 1) expect(times.length).toBeLessThanOrEqual(Math.max(eventsPerChunk, 0));
        },
      ),
      { numRuns: 150 },
    );
  });

  test('long runs, too, with users that come and go', async () => {
    const tokenizer = await fitted;
    const many = Array.from({ length: 30_000 }, (_, i) => ({
      ...row(i),
      user: `u${(i * i) % 997}`,
      at: (i * 7919) % 10_007,
      ...(i % 3 && { genres: ['x|y', 'z', `x|${i}`, 'y'][i % 4] }),
    }));
    const { chunks, summary } = await gather(tokenizer, [many], { eventsPerChunk: 6000, policies: { duplicate: 'reject' } });
    const whole = await tokenizer.encode(many, { policies: { duplicate: 'reject' } });
    expect(chunks.length).toBeGreaterThan(4);
    expect(summary).toEqual(summaryOf(whole));
    expect(columnsOf(concatEvents(chunks))).toEqual(columnsOf(whole));
  });

  test('nothing is left in the scratch folder: not at the end, not when broken off, not when a row throws', async () => {
    const tokenizer = await fitted;
    const scratch = await mkdtemp(path.join(folder, 'scratch-'));
    const blocks = Array.from({ length: 20 }, (_, i) => RowsOf(rows.slice(i * 10, i * 10 + 10)));
    const options = { eventsPerChunk: 10, scratch };
    expect((await gather(tokenizer, blocks, options)).chunks.length).toBeGreaterThan(1);
    expect(await readdir(scratch)).toEqual([]);
    for await (const chunk of tokenizer.encodeChunks(blocks, options)) {
      expect(chunk.users.length).toBeGreaterThan(0);
      break;
    }
    expect(await readdir(scratch)).toEqual([]);
    const bad = [...blocks, RowsOf([{ ...row(0), score: 'many' }])];
    await expect(gather(tokenizer, bad, { ...options, policies: { malformed: 'throw' } })).rejects.toThrow(RowError);
    expect(await readdir(scratch)).toEqual([]);
  });

  test('a duplicate that is to throw throws by the first line, at the end', async () => {
    const tokenizer = await fitted;
    const blocks = [RowsOf([row(1), row(2)]), RowsOf([row(2), row(1)])];
    await expect(gather(tokenizer, blocks, { eventsPerChunk: 2, policies: { duplicate: 'throw' } })).rejects.toMatchObject({
      name: 'RowError',
      line: 3,
      kind: 'duplicate',
    });
  });

  test('can be aborted, are iterated once, and have a summary only when read', async () => {
    const tokenizer = await fitted;
    const abort = new AbortController();
    abort.abort(new Error('enough'));
    await expect(gather(tokenizer, rows, { signal: abort.signal })).rejects.toThrow('enough');
    const chunks = tokenizer.encodeChunks(rows);
    expect(() => chunks.summary).toThrow(SchemaError);
    for await (const chunk of chunks) expect(chunk.users).toHaveLength(11);
    expect(chunks.summary.counts.events).toBe(200);
    expect(() => chunks[Symbol.asyncIterator]()).toThrow(/read already/);
    expect(() => tokenizer.encodeChunks(rows, { eventsPerChunk: 0 })).toThrow(/eventsPerChunk/);
  });
});

function RowsOf(list: readonly Row[]): RowColumns {
  const names = [...new Set(list.flatMap((one) => Object.keys(one)))];
  return new RowColumns({
    length: list.length,
    columns: Object.fromEntries(names.map((name) => [name, list.map((one) => one[name])])),
  });
}

describe('rows column by column', () => {
  test('encode as the same rows do, with lines and problems', async () => {
    const tokenizer = await fitted;
    const block = new RowColumns({
      length: 3,
      columns: {
        user: ['a', undefined, 'b'],
        at: [1, undefined, 2],
        film: ['film 0', undefined, 'film 1'],
        note: ['x', 'y', 'z'],
      },
      lines: [2, 5, 9],
      problems: new Map([[1, 'it has 2 fields where 4 were expected']]),
    });
    const events = await tokenizer.encode([block]);
    expect(events.rejected).toEqual([{ line: 5, field: '', kind: 'malformed', reason: 'it has 2 fields where 4 were expected' }]);
    expect(await tokenizer.encode([...block])).toEqual(events);
    expect([...block][1]).toEqual({ [sourceLine]: 5, [malformedRow]: 'it has 2 fields where 4 were expected' });
    expect((await EventTokenizer.fit(schema, [RowsOf(rows)])).hash).toBe(tokenizer.hash);
  });

  test('must all be of one length', () => {
    expect(() => new RowColumns({ length: 2, columns: { user: ['a'] } })).toThrow(/columns.user: it has 1 values for 2 rows/);
  });
});

describe('a folder of columns', () => {
  test('gives back, user by user, what was encoded', async () => {
    const tokenizer = await fitted;
    const options = { policies: { duplicate: 'reject' } } as const;
    const odd = [...rows, { ...row(3), user: '\ud800' }, { ...row(3), user: 'é' }, { ...row(3), film: null }];
    const blocks = Array.from({ length: 21 }, (_, i) => RowsOf(odd.slice(i * 10, i * 10 + 10)));
    const whole = await tokenizer.encode(blocks, options);
    const place = fresh();
    const written = await ColumnFolder.write(place, tokenizer.encodeChunks(blocks, { ...options, eventsPerChunk: 30 }));
    await written.close();
    const stored = await ColumnFolder.open(place, { tokenizer });
    const { users, events, counts, rejected } = stored;
    expect({ users, events, counts, rejected }).toEqual({
      users: whole.users.length,
      events: whole.times.length,
      ...summaryOf(whole),
    });
    expect(columnsOf(await stored.read(0, users))).toEqual(columnsOf(whole));
    for (const [from, to] of [
      [0, 1],
      [3, 3],
      [2, 9],
      [users - 2, users],
    ])
      expect(columnsOf(await stored.read(from, to))).toEqual(columnsOf(sliceUsers(whole, from, to)));
    const chunks: EventColumns[] = [];
    for await (const chunk of stored.chunks({ events: 50 })) chunks.push(chunk);
    expect(chunks.length).toBeGreaterThan(3);
    expect(columnsOf(concatEvents(chunks))).toEqual(columnsOf(whole));
    expect(stored.eventsOf(4)).toBe(whole.offsets[5] - whole.offsets[4]);
    await expect(stored.read(0, users + 1)).rejects.toThrow(UnknownUserError);
    await stored.close();
    await stored.close();
    await expect(stored.read(0, 1)).rejects.toMatchObject({ name: 'ColumnFolderError', folder: place, problem: 'it was closed' });
    await expect(stored.chunks().next()).rejects.toThrow(/Open it again/);
  });

  test('of an empty log is empty', async () => {
    const stored = await ColumnFolder.write(fresh(), (await fitted).encodeChunks([]));
    expect([stored.users, stored.events]).toEqual([0, 0]);
    const nothing = await stored.read(0, 0);
    expect(nothing.users).toEqual([]);
    await stored.close();
    // It has every column all the same: a day without events may come before others.
    const tokenizer = await fitted;
    expect(columnsOf(nothing)).toEqual(columnsOf(await tokenizer.encode([])));
    const next = await tokenizer.encode(rows);
    expect(columnsOf(concatEvents([nothing, next]))).toEqual(columnsOf(next));
  });

  test('is replaced whole or not at all, and what a killed writer left goes with the next write', async () => {
    const tokenizer = await fitted;
    const place = fresh();
    await (await ColumnFolder.write(place, tokenizer.encodeChunks(rows))).close();
    const failing = async function* () {
      yield rows;
      await Promise.resolve();
      throw new Error('the source broke');
    };
    await expect(ColumnFolder.write(place, tokenizer.encodeChunks(failing()))).rejects.toThrow('the source broke');
    expect(await readdir(place)).toHaveLength(2);
    const kept = await ColumnFolder.open(place);
    expect(kept.events).toBe(200);

    // A killed writer: its files are there, and no manifest names them.
    const abandoned = path.join(place, 'data-of-a-killed-writer');
    await (await ColumnFolder.write(abandoned, tokenizer.encodeChunks(rows.slice(0, 10)))).close();
    await rm(path.join(abandoned, 'columns.json'));
    await expect(ColumnFolder.open(abandoned)).rejects.toThrow(/no finished columns.json/);
    expect((await kept.read(0, 1)).users).toEqual(['user 0']);

    const second = await ColumnFolder.write(place, tokenizer.encodeChunks(rows.slice(0, 50)));
    expect(second.events).toBe(50);
    expect(existsSync(abandoned)).toBe(false);
    await kept.close();
    await second.close();
  });

  test('may be replaced while it is opened: the reader has the new content', async () => {
    const tokenizer = await fitted;
    const [place, next] = [fresh(), fresh()];
    await (await ColumnFolder.write(place, tokenizer.encodeChunks(rows))).close();
    await (await ColumnFolder.write(next, tokenizer.encodeChunks(rows.slice(0, 50)))).close();
    let replaced = false;
    const expected = {
      // Asked for once the manifest was read, and before the files are opened.
      get hash() {
        if (!replaced)
          for (const old of readdirSync(place)) if (old !== 'columns.json') rmSync(path.join(place, old), { recursive: true });
        if (!replaced) cpSync(next, place, { recursive: true });
        replaced = true;
        return tokenizer.hash;
      },
    };
    const stored = await ColumnFolder.open(place, { tokenizer: expected });
    expect([stored.events, (await stored.read(0, 1)).users]).toEqual([50, ['user 0']]);
    await stored.close();
  });

  test('says what is wrong with it', async () => {
    const tokenizer = await fitted;
    const place = fresh();
    await expect(ColumnFolder.open(place)).rejects.toThrow(ColumnFolderError);
    await (await ColumnFolder.write(place, tokenizer.encodeChunks(rows))).close();
    const other = await EventTokenizer.fit(schema, rows.slice(0, 20));
    await expect(ColumnFolder.open(place, { tokenizer: other })).rejects.toThrow(TokenizerMismatchError);
    const manifest = path.join(place, 'columns.json');
    const written = await readFile(manifest, 'utf8');
    const changed = async (from: string, to: string) => {
      expect(written).toContain(from);
      await writeFile(manifest, written.replace(from, to));
      return ColumnFolder.open(place);
    };
    await expect(changed('"version":1', '"version":2')).rejects.toThrow(/version 2, and this release reads up to 1/);
    await expect(changed('"LE"', '"BE"')).rejects.toThrow(/other byte order/);
    await expect(changed('"field0.gap"', '"../secret"')).rejects.toThrow(/not the name of a file/);
    await expect(changed('"field0.gap"', '"field9.gap"')).rejects.toThrow(/lacks field9.gap/);
    await expect(changed('"events":200', '"events":199')).rejects.toThrow(/do not end at its events/);
    await expect(changed('{"format"', '{"format')).rejects.toThrow(/is not JSON/);
    await writeFile(manifest, written);
    const { data } = JSON.parse(written) as { data: string };
    await truncate(path.join(place, data, 'times'), 8);
    await expect(ColumnFolder.open(place)).rejects.toMatchObject({
      name: 'ColumnFolderError',
      folder: place,
      problem: 'its file times has 8 bytes instead of 1600',
    });
    await rm(path.join(place, data, 'times'));
    await expect(ColumnFolder.open(place)).rejects.toThrow(/its file times is not there/);
  });
});
