import { describe, expect, test } from '@jest/globals';

import {
  categorical,
  categories,
  EmptyLogError,
  EmptyVocabularyError,
  EventTokenizer,
  eventSchema,
  item,
  MissingColumnError,
  number,
  RowError,
  SchemaError,
  SPECIAL_NAMES,
  time,
} from '../src/index.js';
import type { EncodeOptions, FitOptions, Row } from '../src/index.js';

const schema = eventSchema({
  user: 'user',
  time: time('time'),
  fields: {
    film: item('film'),
    genres: categories('genres'),
    score: number('score', { buckets: 4 }),
    device: categorical('device'),
  },
});
const row = (film: unknown, more: Row = {}): Row => ({
  user: 'ann',
  time: 1,
  film,
  genres: 'a|b',
  score: 1,
  device: 'tv',
  ...more,
});

describe('fit', () => {
  test('orders a vocabulary by count, then by first appearance, after the special ids', async () => {
    const films = ['c', 'b', 'a', 'b', 'd', 'a', 'b'];
    const tokenizer = await EventTokenizer.fit(
      schema,
      films.map((film) => row(film)),
    );
    expect(tokenizer.vocabulary('film')).toEqual([...SPECIAL_NAMES, 'b', 'a', 'c', 'd']);
    expect(tokenizer.fields.film).toEqual({ kind: 'categorical', size: 8, item: true });
    expect(tokenizer.itemField).toBe('film');
    expect(Object.keys(tokenizer.fields)).toEqual(['time', 'film', 'genres', 'score', 'device']);
    expect(tokenizer.fields.time).toEqual({ kind: 'time', unit: 's', gap: 36, hour: 28, weekday: 11 });
  });

  test('minCount and maxSize hold for all fields, or by field', async () => {
    const rows = ['a', 'a', 'a', 'b', 'b', 'c'].map((film, i) => row(film, { genres: ['x', `g${i}`] }));
    const all = await EventTokenizer.fit(schema, rows, { minCount: 2 });
    expect(all.vocabulary('film').slice(4)).toEqual(['a', 'b']);
    expect(all.vocabulary('genres').slice(4)).toEqual(['x']);
    const some = await EventTokenizer.fit(schema, rows, { minCount: { genres: 2 }, maxSize: { film: 2 } });
    expect(some.vocabulary('film').slice(4)).toEqual(['a', 'b']);
    expect(some.vocabulary('genres').slice(4)).toEqual(['x']);
    expect((await EventTokenizer.fit(schema, rows, { maxSize: 1 })).vocabulary('film').slice(4)).toEqual(['a']);
  });

  test('a bag counts a value once, and the number 7 and the text "7" are one value', async () => {
    const tokenizer = await EventTokenizer.fit(schema, [
      row(7, { genres: ['x', 'x', 'y'] }),
      row('7', { genres: 'y' }),
      row(7n, { genres: ' y | z |' }),
    ]);
    expect(tokenizer.vocabulary('film').slice(4)).toEqual(['7']);
    expect(tokenizer.vocabulary('genres').slice(4)).toEqual(['y', 'x', 'z']);
    expect(['7', 7, 7n].map((value) => tokenizer.id('film', value))).toEqual([4, 4, 4]);
  });

  test('the name of a special id never becomes a value', async () => {
    const tokenizer = await EventTokenizer.fit(schema, [
      row('a', { genres: ['[mask]', 'x'], device: '[missing]' }),
      row('[unknown]'),
      row('[missing]'),
    ]);
    expect(tokenizer.vocabulary('film').slice(4)).toEqual(['a']);
    expect(tokenizer.vocabulary('genres').slice(4)).toEqual(['x', 'a', 'b']);
    expect(['[padding]', '[mask]', '[unknown]', '[missing]'].map((value) => tokenizer.id('film', value))).toEqual([2, 2, 2, 3]);
  });

  test('reads each row once, from any kind of source', async () => {
    const rows = ['a', 'b', 'b'].map((film) => row(film));
    let opened = 0;
    let read = 0;
    async function* stream() {
      opened++;
      for (const entry of rows) {
        read++;
        yield entry;
      }
    }
    const tokenizer = await EventTokenizer.fit(schema, stream);
    expect({ opened, read }).toEqual({ opened: 1, read: 3 });
    for (const source of [rows, [rows], new Set(rows), stream(), () => rows])
      expect((await EventTokenizer.fit(schema, source)).hash).toBe(tokenizer.hash);
  });

  test('rows may have an interface as their type', async () => {
    interface Sale {
      user: string;
      time: number;
      film: string;
    }
    const sales: readonly Sale[] = [
      { user: 'u', time: 1, film: 'a' },
      { user: 'u', time: 2, film: 'b' },
    ];
    const short = eventSchema({ user: 'user', time: time('time'), fields: { film: item('film') } });
    const tokenizer = await EventTokenizer.fit(short, () => sales);
    const lists = (async function* () {
      yield sales;
    })();
    expect((await tokenizer.encode(lists)).counts.events).toBe(2);
    expect(await tokenizer.encode(sales)).toMatchObject({ users: ['u'], counts: { events: 2 } });
  });

  test('a bad row does not count in any field', async () => {
    const rows = [
      row('a'),
      row('b', { score: 'much' }),
      row('c', { user: '' }),
      row('d', { time: 'noon' }),
      row(null),
      row('e', { device: {} }),
    ];
    const tokenizer = await EventTokenizer.fit(schema, [...rows, null as unknown as Row, 5 as unknown as Row]);
    expect(tokenizer.vocabulary('film').slice(4)).toEqual(['a']);
    expect(tokenizer.vocabulary('genres').slice(4)).toEqual(['a', 'b']);
    await expect(EventTokenizer.fit(schema, rows, { strict: true })).rejects.toMatchObject({
      name: 'RowError',
      line: 2,
      field: 'score',
    });
  });

  test('says which column is missing, and what there is', async () => {
    const wrong = eventSchema({ user: 'user', fields: { film: item('movie') } });
    const error = await EventTokenizer.fit(wrong, [row('a')]).catch((caught: unknown) => caught);
    expect(MissingColumnError.isInstance(error)).toBe(true);
    expect((error as Error).message).toContain('No row has the column "movie"');
    expect((error as Error).message).toContain('"film"');
    const empty = eventSchema({ user: 'user', fields: { film: item('film'), note: categorical('note') } });
    await expect(EventTokenizer.fit(empty, [row('a', { note: null })])).resolves.toBeInstanceOf(EventTokenizer);
  });

  test('says why no row is usable', async () => {
    await expect(EventTokenizer.fit(schema, [])).rejects.toThrow('There is no row to fit');
    const error = await EventTokenizer.fit(schema, [row('a', { time: 1.6e12 })]).catch((caught: unknown) => caught);
    expect(EmptyLogError.isInstance(error)).toBe(true);
    expect((error as Error).message).toContain("if these are milliseconds, use unit 'ms'");
    const rare = await EventTokenizer.fit(schema, [row('a')], { minCount: 2 }).catch((caught: unknown) => caught);
    expect(EmptyVocabularyError.isInstance(rare)).toBe(true);
  });

  test('refuses options that name no field or no count', async () => {
    const refused: FitOptions[] = [
      { minCount: 0 },
      { maxSize: 1.5 },
      { minCount: { film: -1 } },
      { minCount: { score: 2 } },
      { maxSize: { nothing: 2 } },
    ];
    for (const options of refused) {
      const error = await EventTokenizer.fit(schema, [row('a')], options).catch((caught: unknown) => caught);
      expect(SchemaError.isInstance(error)).toBe(true);
    }
  });

  test('refuses an option that there is none of, in fitting and in encoding', async () => {
    const rows = [row('a')];
    const tokenizer = await EventTokenizer.fit(schema, rows);
    await expect(EventTokenizer.fit(schema, rows, { mincount: 2 } as FitOptions)).rejects.toThrow(
      'mincount: there is no such option. There are minCount, maxSize, strict, signal, onProgress.',
    );
    const misplaced = { duplicate: 'reject' } as EncodeOptions;
    await expect(tokenizer.encode(rows, misplaced)).rejects.toThrow('duplicate: there is no such option. There are policies, ');
    expect(() => tokenizer.encodeChunks(rows, misplaced)).toThrow('duplicate: there is no such option');
  });

  test('refuses what gives no rows, in fitting and in encoding', async () => {
    const tokenizer = await EventTokenizer.fit(schema, [row('a')]);
    for (const [given, problem] of [
      [undefined, /^rows: undefined gives no rows\. Give a list of rows/],
      // Without a word of it: it may be a log.
      [
        'user,item\nann,dune\n',
        /^rows: a text gives no rows\. Read the file with openDataset of @user-llm\/datasets, or parse it\.$/,
      ],
      [row('a'), /^rows: an object gives no rows/],
      [async () => [row('a')], /^rows: a promise gives no rows\. Await it first/],
    ] as const) {
      const rows = given as unknown as Row[];
      for (const used of [EventTokenizer.fit(schema, rows), tokenizer.encode(rows)]) {
        const error: unknown = await used.catch((caught: unknown) => caught);
        expect(SchemaError.isInstance(error) && error.message).toMatch(problem);
      }
    }
  });

  test('stops at an abort, closes the source, and reports progress', async () => {
    let closed = false;
    const controller = new AbortController();
    async function* endless() {
      try {
        for (;;) yield row('a');
      } finally {
        closed = true;
      }
    }
    const seen: number[] = [];
    const onProgress = ({ rows }: { rows: number }) => {
      seen.push(rows);
      if (rows > 3000) controller.abort();
    };
    await expect(EventTokenizer.fit(schema, endless, { signal: controller.signal, onProgress })).rejects.toMatchObject({
      name: 'AbortError',
    });
    expect(closed).toBe(true);
    expect(seen).toEqual([1024, 2048, 3072]);
  });

  test('a row error names line, column and what to do', () => {
    const error = new RowError({ line: 3, field: 'score', kind: 'malformed', reason: '"x" is not a finite number' });
    expect(error.message).toBe(
      'line 3, column "score": "x" is not a finite number. Correct the row, or leave out strict so that such rows follow the default policy.',
    );
  });
});
