import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EventTokenizer, RowColumns } from '@user-llm/event-tokenizer';
import fc from 'fast-check';

import { plainNumber, readDelimitedColumns } from '../src/delimited-columns.js';
import { readDelimited } from '../src/delimited.js';
import { openDataset } from '../src/index.js';
import type { Row } from '../src/index.js';
import { all, folderOf } from './helpers.js';

fc.configureGlobal({ seed: 20240229 });

let place: Awaited<ReturnType<typeof folderOf>>;
beforeAll(async () => {
  place = await folderOf({});
});
afterAll(() => place.remove());
let named = 0;
async function fileOf(content: string): Promise<string> {
  const file = path.join(place.folder, `t${named++}.csv`);
  await writeFile(file, content);
  return file;
}

const cell = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    '12',
    '-1.50',
    'x y',
    ' ',
    'é',
    '日本',
    '0x1f',
    '1e3',
    'a text that is longer than a window of the engine',
  ),
  fc.string({ unit: fc.constantFrom('a', '1', ' ', 'ß', "'", ';'), maxLength: 20 }),
);
const inQuotes = fc.string({ unit: fc.constantFrom('a', '""', ',', '\n', '7'), maxLength: 8 }).map((inside) => `"${inside}"`);
/** Lines of three cells most often, blank ones, too short and too long ones. */
const textOf = (cells: fc.Arbitrary<string>, end: string) =>
  fc
    .array(
      fc.oneof(
        { weight: 8, arbitrary: fc.tuple(cells, cells, cells).map((line) => line.join(',')) },
        { weight: 1, arbitrary: fc.array(cells, { maxLength: 5 }).map((line) => line.join(',')) },
      ),
      { maxLength: 20 },
    )
    .chain((lines) => fc.boolean().map((ended) => lines.join(end) + (ended ? end : '')));

const format = { delimiter: ',', encoding: 'utf-8', quotes: true, header: true, fields: 3 } as const;
const asText = [0, 1, 2].map((field) => ({ field, read: (text: string) => text }));

/** What the columns must be, by csv-parse. */
async function reference(file: string) {
  const records = (await all(readDelimited(file, format))).flat();
  return records.map(({ fields, line, problem }) => ({
    line,
    problem,
    values: problem === undefined ? fields.map((text) => text || undefined) : [],
  }));
}

async function scanned(file: string) {
  const blocks = await all(readDelimitedColumns(file, format, asText));
  return blocks.flatMap(({ length, values, lines, problems }) =>
    Array.from({ length }, (_, i) => {
      const problem = problems.get(i);
      return { line: lines[i], problem, values: problem === undefined ? values.map((column) => column[i]) : [] };
    }),
  );
}

describe('delimited text, column by column', () => {
  test.each([
    ['line feeds', '\n'],
    ['carriage returns and line feeds', '\r\n'],
  ])('is what csv-parse makes of it: plain, with %s', async (_, end) => {
    await fc.assert(
      fc.asyncProperty(textOf(cell, end), async (text) => {
        const file = await fileOf(`one,two,three${end}${text}`);
        expect(await scanned(file)).toEqual(await reference(file));
      }),
      { numRuns: 80 },
    );
  });

  test.each([
    ['well-formed', fc.oneof(cell, inQuotes)],
    [
      'with a wrong one here and there',
      fc.oneof({ weight: 8, arbitrary: cell }, inQuotes, fc.constantFrom('a"b', '"a"b', '"', '"a', 'a"', '"""')),
    ],
  ])('is what csv-parse makes of it: quotes, %s', async (_, cells) => {
    await fc.assert(
      fc.asyncProperty(textOf(cells, '\n'), async (text) => {
        const file = await fileOf(`one,two,three\n${text}`);
        expect(await scanned(file)).toEqual(await reference(file));
      }),
      { numRuns: 80 },
    );
  });

  test('numbers are those that Number reads', () => {
    const written = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.integer().map(String),
      fc.tuple(fc.bigInt({ min: -(10n ** 16n), max: 10n ** 16n }), fc.nat(9999)).map(([whole, part]) => `${whole}.${part}`),
      fc.string({ unit: fc.constantFrom('0', '1', '9', '.', '-', '5'), minLength: 1, maxLength: 20 }),
      fc.constantFrom('0.1', '-0', '007', '5.', '.5', '.', '-', '', '999999999999999', '0.30000000000000004'),
    );
    fc.assert(
      fc.property(written, (text) => {
        const read = plainNumber(`<${text}>`, 1, 1 + text.length);
        if (!Number.isNaN(read)) expect(read).toBe(Number(text));
      }),
      { numRuns: 2000 },
    );
    expect(['12', '-3.25', '1527811200'].map((text) => plainNumber(text, 0, text.length))).toEqual([12, -3.25, 1527811200]);
  });

  test('a file of many blocks, with a quoted line break at every cut, keeps its records and lines', async () => {
    const lines = Array.from({ length: 40_000 }, (_, i) => `u${i},"a\n${i}",${'é'.repeat(i % 13)}x`);
    const file = await fileOf(`one,two,three\n${lines.join('\n')}\n`);
    const found = await scanned(file);
    expect(found).toHaveLength(lines.length);
    found.forEach((record, i) => {
      if (record.values[1] !== `a\n${i}` || record.line !== 2 + 2 * i)
        throw new Error(`record ${i} is ${JSON.stringify(record)}`);
    });
  });
});

describe('wrong quotes', () => {
  const users = async (text: string) =>
    (await scanned(await fileOf(text))).map(({ line, problem, values }) => (problem === undefined ? [line, values[0]] : [line]));

  test('cost the line in which the field starts, be they followed by more or never closed', async () => {
    expect(await users('one,two,three\na,"b"x,c\nd,"e,f\ng,h,"i"\nj,"k\n",l\nm,"n,o\np,q,r\n')).toEqual([
      [2],
      [3],
      [4, 'g'],
      [5, 'j'],
      [7],
      [8, 'p'],
    ]);
  });

  test('a quote inside a field is none, at the cuts between blocks as elsewhere', async () => {
    const kinds = [
      (i: number) => ({ text: `u${i},27" monitor,${'é'.repeat(i % 13)}`, lines: 1, right: true }),
      (i: number) => ({ text: `u${i},"a\n${i}, ""b"", c\n",${'é'.repeat(i % 13)}x`, lines: 3, right: true }),
      (i: number) => ({ text: `u${i},b,"not closed`, lines: 1, right: false }),
      (i: number) => ({ text: `"u${i}",'""',"${'é'.repeat(i % 13)}"`, lines: 1, right: true }),
    ];
    const written = Array.from({ length: 40_000 }, (_, i) => kinds[((i * i) % 7) % 4](i));
    const expected: unknown[] = [];
    let line = 2;
    written.forEach(({ lines, right }, i) => {
      expected.push(right ? [line, `u${i}`] : [line]);
      line += lines;
    });
    for (const end of ['\n', '\r\n']) {
      const found = await users(['one,two,three', ...written.map(({ text }) => text), ''].join(end));
      const wrong = found.findIndex((record, i) => String(record) !== String(expected[i]));
      expect([found.length, found[wrong]]).toEqual([expected.length, undefined]);
    }
  });
});

describe('event blocks', () => {
  const content = [
    'user,item,time,rating,categories,device',
    'ann,i1,1000000000,4.5,Drama|War,phone',
    '',
    'bob,i2,1000000001,often,,',
    'bob,i2',
    ',i3,,5,Drama,"a, b"',
    'ann,an item with a name longer than a window,1000000002.5,,War| Drama|War,phone',
  ].join('\r\n');

  test('of a CSV are columns, and hold the rows that the other streams give', async () => {
    const data = await openDataset(await fileOf(content), { columns: { device: 'device' }, checksum: false });
    const blocks = await all(data.eventBlocks);
    expect(blocks.every((block) => RowColumns.isInstance(block))).toBe(true);
    const rows: Row[] = blocks.flatMap((block) => [...block]);
    expect(rows).toEqual(await all(data.events));
    expect(rows).toEqual((await all(data.eventBatches)).flat());
    expect(rows.map((row) => [row.user, row.item, row.time, row.rating, row.categories, row.device])).toEqual([
      ['ann', 'i1', 1000000000, 4.5, ['Drama', 'War'], 'phone'],
      ['bob', 'i2', 1000000001, 'often', undefined, undefined],
      [undefined, undefined, undefined, undefined, undefined, undefined],
      [undefined, 'i3', undefined, 5, ['Drama'], 'a, b'],
      ['ann', 'an item with a name longer than a window', 1000000002.5, undefined, ['War', 'Drama'], 'phone'],
    ]);
    const tokenizer = await EventTokenizer.fit(data.schema, data.eventBlocks);
    const events = await tokenizer.encode(data.eventBlocks);
    expect(events).toEqual(await tokenizer.encode(data.events));
    expect(events.rejected.map(({ line, field }) => [line, field])).toEqual([
      [4, 'rating'],
      [5, ''],
      [6, 'user'],
    ]);
  });

  test('join titles and categories, and number the rows where there is no time', async () => {
    const place = await folderOf({
      'log.csv': 'user,item\na,1\na,2\nb,1\n',
      'items.csv': 'id,title,categories\n1,One,"x|y"\n',
    });
    const data = await openDataset(place.folder, { checksum: false });
    const rows = (await all(data.eventBlocks)).flatMap((block) => [...block]);
    expect(rows.map(({ user, item, time, title, categories }) => [user, item, time, title, categories])).toEqual([
      ['a', '1', 1, 'One', ['x', 'y']],
      ['a', '2', 2, undefined, undefined],
      ['b', '1', 3, 'One', ['x', 'y']],
    ]);
    await place.remove();
  });
});
