import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { EventTokenizer } from '@user-llm/event-tokenizer';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

import {
  BinaryFileError,
  DamagedFileError,
  DatasetError,
  EmptyFileError,
  InvalidOptionError,
  lineOf,
  MissingColumnError,
  openDataset,
  PathNotFoundError,
  problemOf,
  UnknownLayoutError,
} from '../src/index.js';
import { all, folderOf } from './helpers.js';

jest.setTimeout(60_000);

const cleanup: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const remove of cleanup.splice(0)) await remove();
});
async function files(content: Record<string, string | Uint8Array>): Promise<string> {
  const { folder, remove } = await folderOf(content);
  cleanup.push(remove);
  return folder;
}
const lines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
/** Rows without the symbols for line and problem. */
const bare = <T extends object>(rows: T[]) => rows.map((row) => Object.fromEntries(Object.entries(row)));

describe('MovieLens', () => {
  test('latest: titles with commas and quotes, genres joined, line numbers', async () => {
    const folder = await files({
      'ratings.csv': 'userId,movieId,rating,timestamp\n1,11,4.5,1000000000\n2,12,3.0,1000000060\n',
      'movies.csv':
        'movieId,title,genres\n11,"American President, The (1995)",Comedy|Drama\n12,"""Great Performances"" Cats (1998)",(no genres listed)\n',
    });
    const data = await openDataset(folder, { name: 'mine' });
    expect([data.name, data.layout, data.simulated, data.time.unit]).toEqual(['mine', 'movielens-latest', false, 's']);
    const rows = await all(data.events);
    expect(bare(rows)).toEqual([
      { user: '1', item: '11', time: 1e9, rating: 4.5, title: 'American President, The (1995)', categories: ['Comedy', 'Drama'] },
      { user: '2', item: '12', time: 1e9 + 60, rating: 3, title: '"Great Performances" Cats (1998)', categories: [] },
    ]);
    expect(rows.map(lineOf)).toEqual([2, 3]);
    expect((await all(data.items)).map(({ id, year }) => [id, year])).toEqual([
      ['11', 1995],
      ['12', 1998],
    ]);
    expect((await all((await openDataset(folder, { normaliseTitles: true })).items))[0].title).toBe(
      'The American President (1995)',
    );
  });

  test('1M and 10M: "::" between fields; Latin-1 or UTF-8 as the file is; an order is not taken for a time', async () => {
    const movies = '7::Les Misérables (1995)::Drama|Musical\n';
    const latin = await files({
      'ratings.dat': '1::7::5::1\n1::7::4::2\n',
      'movies.dat': Buffer.from(movies, 'latin1'),
      'users.dat': '1::F::25::12::55117\n',
    });
    const data = await openDataset(latin);
    expect([data.layout, data.time.unit]).toEqual(['movielens-1m', 'order']);
    expect(data.schema.time).toMatchObject({ unit: 'order' });
    expect(data.provenance.notes.join()).toMatch(/order of a user's events, not a time/);
    expect((await all(data.events)).map(({ time, title }) => [time, title])).toEqual([
      [1, 'Les Misérables (1995)'],
      [2, 'Les Misérables (1995)'],
    ]);
    expect(bare(await all(data.users))).toEqual([
      { user: '1', gender: 'F', ageGroup: '25-34', occupation: 'programmer', zip: '55117' },
    ]);
    const utf8 = await files({ 'ratings.dat': '1::7::0.5::978300760\n', 'movies.dat': movies });
    const ten = await openDataset(utf8);
    expect(ten.time.unit).toBe('s');
    expect((await all(ten.events))[0]).toMatchObject({ time: 978300760, rating: 0.5, title: 'Les Misérables (1995)' });
  });

  test('100K: tabs, Latin-1, genre flags', async () => {
    const flags = ['Drama', 'Sci-Fi'];
    const names =
      'unknown Action Adventure Animation Children Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western';
    const item = [
      '5',
      'Délicatessen (1991)',
      '01-Jan-1991',
      '',
      '',
      ...names.split(' ').map((name) => (flags.includes(name) ? 1 : 0)),
    ].join('|');
    const folder = await files({
      'u.data': '3\t5\t2\t881250949\n',
      'u.item': Buffer.from(`${item}\n`, 'latin1'),
      'u.user': '3|24|M|technician|85711\n',
    });
    const data = await openDataset(folder);
    expect(bare(await all(data.events))).toEqual([
      { user: '3', item: '5', time: 881250949, rating: 2, title: 'Délicatessen (1991)', categories: ['Drama', 'Sci-Fi'] },
    ]);
    expect(bare(await all(data.users))).toEqual([{ user: '3', age: 24, gender: 'M', occupation: 'technician', zip: '85711' }]);
  });

  test.each([
    ['\r\n', '\n'],
    ['\n', '\r\n'],
  ])('every line may end in its own way: the first with %j, the others with %j', async (first, other) => {
    const folder = await files({
      'ratings.csv': `userId,movieId,rating,timestamp${first}1,11,5,1000000000${first}1,12,4,1000000001${other}1,13,3,1000000002${other}`,
      'movies.csv': `movieId,title,genres${first}11,A,Drama${other}12,"B, the",Comedy|Drama${other}13,C,"War"${first}`,
    });
    const rows = await all((await openDataset(folder)).events);
    expect(rows.map((row) => [lineOf(row), row.item, row.time, row.title, row.categories])).toEqual([
      [2, '11', 1000000000, 'A', ['Drama']],
      [3, '12', 1000000001, 'B, the', ['Comedy', 'Drama']],
      [4, '13', 1000000002, 'C', ['War']],
    ]);
  });

  test('malformed rows are passed on with their line; the tokenizer quarantines them and says why', async () => {
    const folder = await files({
      'ratings.csv': 'userId,movieId,rating,timestamp\n1,11,4,1000000000\n1,11\n1,12,often,1000000001\n2,11,3,1000000002\n',
      'movies.csv': 'movieId,title,genres\n11,A,Drama\n12,B,Drama\n',
    });
    const data = await openDataset(folder);
    const rows = await all(data.events);
    expect(rows.map(lineOf)).toEqual([2, 3, 4, 5]);
    expect(rows.map(problemOf)).toEqual([undefined, 'it has 2 fields where 4 were expected', undefined, undefined]);
    expect(rows[2].rating).toBe('often');
    const tokenizer = await EventTokenizer.fit(data.schema, () => data.eventBatches);
    const { rejected, users } = await tokenizer.encode(data.eventBatches);
    expect(rejected.map(({ line, field }) => [line, field])).toEqual([
      [3, ''],
      [4, 'rating'],
    ]);
    expect(users).toEqual(['1', '2']);
  });
});

describe('Amazon', () => {
  const review = {
    reviewerID: 'A1',
    asin: 'B000000001',
    overall: 5,
    reviewText: 'Good.',
    summary: 'ok',
    unixReviewTime: 1393545600,
  };

  test('2014: JSON lines, metadata written as Python dicts, gzip', async () => {
    const folder = await files({
      'reviews_X_5.json.gz': gzipSync(lines(review)),
      'meta_X.json.gz': gzipSync(
        `{'asin': 'B000000001', 'title': "Don't \\"stop\\" caf\\xe9", 'price': 1.5, 'x': None, 'categories': [['Music', 'Drums'], ['Music']]}\n`,
      ),
    });
    const data = await openDataset(folder);
    expect(data.layout).toBe('amazon-2014');
    const title = 'Don\'t "stop" café';
    expect(bare(await all(data.events))).toEqual([
      {
        user: 'A1',
        item: 'B000000001',
        time: 1393545600,
        rating: 5,
        text: 'Good.',
        summary: 'ok',
        title,
        categories: ['Music', 'Drums'],
      },
    ]);
    expect(bare(await all(data.items))).toEqual([{ id: 'B000000001', title, categories: ['Music', 'Drums'], price: 1.5 }]);
  });

  test('2018 and 2023', async () => {
    const old = await files({
      'AMAZON_FASHION_5.json': lines({ ...review, verified: true }),
      'meta_AMAZON_FASHION.json': lines({ asin: 'B000000001', title: 'Shoe', category: ['Clothing', 'Shoes'], brand: 'X' }),
    });
    const eighteen = await openDataset(old);
    expect(eighteen.layout).toBe('amazon-2018');
    expect((await all(eighteen.events))[0]).toMatchObject({ title: 'Shoe', categories: ['Clothing', 'Shoes'], verified: true });
    const folder = await files({
      'All_Beauty.jsonl': lines({
        rating: 4,
        title: 'Nice',
        text: 'T',
        asin: 'B1',
        parent_asin: 'B2',
        user_id: 'AG',
        timestamp: 1588687728923,
        verified_purchase: true,
      }),
    });
    const elsewhere = await files({
      'meta_All_Beauty.jsonl': lines({ parent_asin: 'B2', title: 'Soap', main_category: 'Beauty', categories: [], store: 'S' }),
    });
    const data = await openDataset(folder, { metadata: path.join(elsewhere, 'meta_All_Beauty.jsonl') });
    expect(bare(await all(data.events))).toEqual([
      {
        user: 'AG',
        item: 'B2',
        time: 1588687728.923,
        rating: 4,
        text: 'T',
        summary: 'Nice',
        verified: true,
        title: 'Soap',
        categories: ['Beauty'],
      },
    ]);
  });

  test('metadata may be any table of items, and categories are a field where it has some', async () => {
    const folder = await files({ 'reviews.json': lines(review) });
    const elsewhere = await files({
      'items.csv': 'sku,name,tags\nB000000001,Drum,Music/Drums\n',
      'titles.jsonl': lines({ id: 'B000000001', title: 'Drum' }),
    });
    const open = (name: string, options = {}) => openDataset(folder, { metadata: path.join(elsewhere, name), ...options });
    const full = await open('items.csv', { itemColumns: { id: 'sku' }, categorySeparator: '/' });
    expect(full.layout).toBe('amazon-2014');
    expect(bare(await all(full.items))).toEqual([{ id: 'B000000001', title: 'Drum', categories: ['Music', 'Drums'] }]);
    expect((await all(full.events))[0]).toMatchObject({ title: 'Drum', categories: ['Music', 'Drums'] });
    expect(Object.keys(full.schema.fields)).toEqual(['item', 'categories', 'rating', 'text']);
    const titled = await open('titles.jsonl');
    expect((await all(titled.events))[0]).toMatchObject({ title: 'Drum', categories: [] });
    expect(Object.keys(titled.schema.fields)).toEqual(['item', 'rating', 'text']);
    expect(titled.provenance.files.map(({ name }) => name)).toEqual(['reviews.json', 'titles.jsonl']);
  });

  test('metadata of another release is read as what it is', async () => {
    const folder = await files({ 'reviews.json': lines(review) });
    const elsewhere = await files({ 'meta.jsonl': lines({ parent_asin: 'B000000001', title: 'Drum', main_category: 'Music' }) });
    const data = await openDataset(folder, { metadata: path.join(elsewhere, 'meta.jsonl') });
    expect((await all(data.events))[0]).toMatchObject({ title: 'Drum', categories: ['Music'] });
  });

  test('ratings only: without a header, user and item in either order', async () => {
    const rating = { user: 'A3AF8FFZAZYNE5', item: '0000031887', rating: 5, time: 1400000000 };
    for (const row of ['A3AF8FFZAZYNE5,0000031887,5.0,1400000000\n', '0000031887,A3AF8FFZAZYNE5,5.0,1400000000\n']) {
      const data = await openDataset(path.join(await files({ 'r.csv': row }), 'r.csv'));
      expect([data.layout, bare(await all(data.events))]).toEqual(['amazon-ratings', [rating]]);
    }
  });
});

test('Google Local: milliseconds, null texts, names from the reviews when there is no metadata', async () => {
  const review = {
    user_id: '1234567890123456789',
    gmap_id: '0x1:0x2',
    time: 1553466571237,
    rating: 1,
    text: null,
    business_name: 'Olive',
  };
  const reviews = { 'review-Alaska.json': lines(review, { ...review, time: 1553466571238, text: 'Fine' }) };
  const data = await openDataset(await files(reviews));
  expect(data.layout).toBe('google-local');
  expect((await all(data.events)).map(({ time, text, title }) => [time, text, title])).toEqual([
    [1553466571.237, undefined, 'Olive'],
    [1553466571.238, 'Fine', 'Olive'],
  ]);
  expect(bare(await all(data.items))).toEqual([{ id: '0x1:0x2', title: 'Olive', categories: [] }]);
  const joined = await openDataset(
    await files({
      ...reviews,
      'meta-Alaska.json': lines({ gmap_id: '0x1:0x2', name: 'Olive Garden', category: ['Restaurant'] }),
    }),
  );
  expect((await all(joined.events))[0]).toMatchObject({ title: 'Olive Garden', categories: ['Restaurant'] });
});

describe("tables of one's own", () => {
  const expected = [
    { user: 'a', item: '1', time: 1577836800, rating: 3, device: 'tv' },
    { user: 'b', item: '2', time: 1577836860, device: 'phone' },
  ];
  const columns = { user: 'who', item: 'what', time: 'when', rating: 'stars', device: 'on' };

  test('CSV: mapped columns, ISO times, quoted line breaks and the lines after them, a byte order mark, Windows line ends', async () => {
    const csv =
      '\uFEFFwho,what,when,stars,on,note\r\na,1,2020-01-01,3,tv,"two\r\nlines"\r\nb,2,2020-01-01 00:01:00,,phone,"say ""hi"""\r\n';
    const data = await openDataset(path.join(await files({ 'log.csv': csv }), 'log.csv'), { columns });
    const rows = await all(data.events);
    expect(bare(rows)).toEqual(expected);
    expect(rows.map(lineOf)).toEqual([2, 4]);
    expect(data.schema.fields).toMatchObject({
      item: { item: true },
      rating: { kind: 'number' },
      device: { kind: 'categorical', item: false },
    });
  });

  test('JSON lines and Parquet give the same rows; usual names need no mapping', async () => {
    const rows = [
      { user_id: 'a', itemId: 1, timestamp: 1577836800000, rating: 3 },
      { user_id: 'b', itemId: 2, timestamp: 1577836860000, rating: 4 },
    ];
    const parquet = parquetWriteBuffer({
      columnData: [
        { name: 'user_id', data: rows.map((row) => row.user_id), type: 'STRING' },
        { name: 'itemId', data: rows.map((row) => BigInt(row.itemId)), type: 'INT64' },
        { name: 'timestamp', data: rows.map((row) => BigInt(row.timestamp)), type: 'INT64' },
        { name: 'rating', data: rows.map((row) => row.rating), type: 'DOUBLE' },
      ],
      rowGroupSize: 1,
    });
    const folder = await files({ 'a/log.jsonl': lines(...rows), 'b/log.parquet': new Uint8Array(parquet) });
    for (const [name, layout] of [
      ['a', 'jsonl'],
      ['b', 'parquet'],
    ]) {
      const data = await openDataset(path.join(folder, name));
      expect(data.layout).toBe(layout);
      const found = await all(data.events);
      expect(bare(found)).toEqual([
        { user: 'a', item: '1', time: 1577836800, rating: 3 },
        { user: 'b', item: '2', time: 1577836860, rating: 4 },
      ]);
      expect(found.map(lineOf)).toEqual([1, 2]);
    }
  });

  test('JSON lines: ids of many digits are exact, and what is a number elsewhere stays one', async () => {
    const folder = await files({
      'log.jsonl':
        '{"user":76561198059583911,"item":-9007199254740993,"time":1600000000000000,"rating":4.5,"text":"is \\"12345678901234567\\"?"}\n' +
        '{"user":76561198059583912,"item":"12345678901234567","time":9007199254740993,"rating":10000000000000000}\n',
    });
    expect(bare(await all((await openDataset(folder)).events))).toEqual([
      { user: '76561198059583911', item: '-9007199254740993', time: 1600000000, rating: 4.5, text: 'is "12345678901234567"?' },
      { user: '76561198059583912', item: '12345678901234567', time: 9007199254.740992, rating: 1e16 },
    ]);
  });

  test.each([
    ['most are dates', ['2020-01-01', '0', '2020-01-03'], 's', [1577836800, '0', 1578009600]],
    ['most are days that there are', ['2020-01-01', '2024-02-30', '2024-02-29'], 's', [1577836800, '2024-02-30', 1709164800]],
    ['most are numbers', ['1600000000', '2020-01-01', '1600000001'], 's', [1600000000, '2020-01-01', 1600000001]],
  ])('one time that is written otherwise does not decide what the others are: %s', async (_, times, unit, expected) => {
    const csv = ['user,item,time', ...times.map((time) => `a,1,${time}`)].join('\n');
    const data = await openDataset(await files({ 'log.csv': csv }));
    expect(data.time.unit).toBe(unit);
    expect((await all(data.events)).map(({ time }) => time)).toEqual(expected);
  });

  test('a folder whose events have titles: they are told from the items by the columns that are named', async () => {
    const folder = await files({
      'events.csv': 'buyer,item,time,title\na,1,1600000000,One\n',
      'items.csv': 'item,title,genres\n1,One,x|y\n',
    });
    const data = await openDataset(folder, { columns: { user: 'buyer' } });
    expect(bare(await all(data.events))).toEqual([
      { user: 'a', item: '1', time: 1600000000, title: 'One', categories: ['x', 'y'] },
    ]);
    expect(bare(await all(data.items))).toEqual([{ id: '1', title: 'One', categories: ['x', 'y'] }]);
  });

  test('a file of items whose lines end in different ways', async () => {
    const folder = await files({
      'log.csv': 'user,item,time\na,1,1600000000\na,2,1600000001\na,3,1600000002\n',
      'items.csv': 'id,title,genres\r\n1,One,x\n2,Two,y|z\n3,Three,x\r\n',
    });
    expect((await all((await openDataset(folder)).events)).map(({ title, categories }) => [title, categories])).toEqual([
      ['One', ['x']],
      ['Two', ['y', 'z']],
      ['Three', ['x']],
    ]);
  });

  test("named columns make a table of one's own of a folder that MovieLens could have written", async () => {
    const folder = await files({
      'ratings.csv': 'rater,userId,movieId,rating,timestamp\n9,1,11,4,1600000000\n',
      'movies.csv': 'movieId,title,genres\n11,A,Drama\n',
    });
    const data = await openDataset(folder, { columns: { user: 'rater' } });
    expect([data.layout, bare(await all(data.events))]).toEqual([
      'csv',
      [{ user: '9', item: '11', time: 1600000000, rating: 4, title: 'A', categories: ['Drama'] }],
    ]);
  });

  test("a column of one's own is a number where the first rows hold some, and nothing else", async () => {
    const folder = await files({
      'log.jsonl': lines(
        { user: 'a', item: '1', time: 1600000000, price: null, note: null, level: 1 },
        { user: 'a', item: '2', time: 1600000001, price: 2.5, note: null, level: 'high' },
      ),
    });
    const data = await openDataset(folder, { columns: { price: 'price', note: 'note', level: 'level' } });
    expect(data.schema.fields).toMatchObject({
      price: { kind: 'number' },
      note: { kind: 'categorical' },
      level: { kind: 'categorical' },
    });
  });

  test('a file of items without categories makes no field of them', async () => {
    const folder = await files({
      'log.jsonl': lines({ user: 'a', item: '1', time: 1600000000 }),
      'meta_items.jsonl': lines({ id: '1', title: 'One' }),
    });
    const { schema, eventBlocks } = await openDataset(folder);
    expect(Object.keys(schema.fields)).toEqual(['item']);
    expect((await EventTokenizer.fit(schema, () => eventBlocks)).itemField).toBe('item');
  });

  test('a folder with several parts and a list of items', async () => {
    const folder = await files({
      'part-1.csv': 'user,item,ts\na,1,1600000000\n',
      'part-2.csv': 'user,item,ts\nb,2,1600000001\n',
      'products.csv': 'id,title,genres\n1,One,x|y\n2,Two,\n',
    });
    const data = await openDataset(folder);
    expect((await all(data.events)).map(({ user, title, categories }) => [user, title, categories])).toEqual([
      ['a', 'One', ['x', 'y']],
      ['b', 'Two', []],
    ]);
  });

  test('a log alone with titles and categories holds its catalogue: each item once, with its first title and categories', async () => {
    const rows = [
      { user: 'a', item: '1', time: 1600000000, title: '', genres: '' },
      { user: 'a', item: '2', time: 1600000001, title: 'Two', genres: 'x' },
      { user: 'b', item: '1', time: 1600000002, title: 'One', genres: 'x|y' },
      { user: 'b', item: '1', time: 1600000003, title: 'One, again', genres: 'z' },
    ];
    const csv = [
      'user,item,time,title,genres',
      ...rows.map((row) =>
        Object.values(row)
          .map((cell) => `"${cell}"`)
          .join(),
      ),
    ];
    const folder = await files({ 'a/log.csv': csv.join('\n'), 'b/log.jsonl': lines(...rows) });
    for (const name of ['a', 'b']) {
      const data = await openDataset(path.join(folder, name));
      expect(bare(await all(data.items))).toEqual([
        { id: '1', title: 'One', categories: ['x', 'y'] },
        { id: '2', title: 'Two', categories: ['x'] },
      ]);
      expect((await all(data.events)).map(({ title }) => title)).toEqual([undefined, 'Two', 'One', 'One, again']);
    }
    const untitled = await openDataset(await files({ 'log.csv': 'user,item,time\na,1,1600000000\n' }));
    expect(untitled.items).toBeUndefined();
  });

  test('without a time column the order of the rows counts', async () => {
    const data = await openDataset(await files({ 'log.tsv': 'user\titem\na\t1\na\t2\n' }));
    expect(data.time.unit).toBe('order');
    expect((await all(data.events)).map(({ time }) => time)).toEqual([1, 2]);
  });

  test('only the line with the wrong quote is lost, and a line that is no JSON', async () => {
    const csv = await openDataset(
      await files({ 'log.csv': 'user,item,time\na,1,1600000000\nb,"2"x,1600000000\n"c",3,1600000000\n' }),
    );
    expect((await all(csv.events)).map((row) => [lineOf(row), row.user, problemOf(row) !== undefined])).toEqual([
      [2, 'a', false],
      [3, undefined, true],
      [4, 'c', false],
    ]);
    const json = await openDataset(
      await files({ 'log.jsonl': `${lines({ user: 'a', item: 'x' })}{"user": "secret\n${lines({ user: 'b', item: 'y' })}` }),
    );
    const rows = await all(json.events);
    expect(rows.map((row) => [lineOf(row), problemOf(row)])).toEqual([
      [1, undefined],
      [2, 'it is no JSON'],
      [3, undefined],
    ]);
  });

  test('a quote inside a field is a character of it, and costs no field with line breaks in its neighbourhood', async () => {
    const csv =
      'user,item,time,text\na,1,1600000000,"first\nx,9,1600000000,no event\nlast"\nb,2,1600000000,5" screen\nc,3,1600000000,"5"" screen"\n';
    const folder = await files({ 'a/log.csv': csv, 'b/log.csv': csv.replaceAll(',', '::') });
    for (const name of ['a', 'b']) {
      const rows = await all((await openDataset(path.join(folder, name))).events);
      expect(rows.map((row) => [lineOf(row), row.user, row.text, problemOf(row)])).toEqual([
        [2, 'a', expect.stringMatching(/^first\n.*\nlast$/), undefined],
        [5, 'b', '5" screen', undefined],
        [6, 'c', '5" screen', undefined],
      ]);
    }
  });

  test('Latin-1 is found wherever it begins: names that differ stay different', async () => {
    const names = ['André', 'Andrè'];
    const plain = 3e4;
    const csv = (rows: string[]) =>
      Buffer.from(['user,item,time', ...rows.map((user) => `${user},1,1600000000`)].join('\n'), 'latin1');
    const json = (rows: string[]) => Buffer.from(lines(...rows.map((user) => ({ user, item: '1', time: 1600000000 }))), 'latin1');
    const late = [...Array<string>(plain).fill('a'), ...names];
    for (const [name, content] of [
      ['log.csv', csv(late)],
      ['log.jsonl', json(names)],
      ['log.jsonl', json(late)],
    ] as const) {
      const users = new Set((await all((await openDataset(await files({ [name]: content }))).events)).map(({ user }) => user));
      expect([...users].filter((user) => user !== 'a')).toEqual(names);
    }
  });

  test('a file of many blocks: every row once, with its line, as often as it is read', async () => {
    const count = 40_000;
    const rows = Array.from(
      { length: count },
      (_, at) => `user-${at % 7},item-${at},${1600000000 + at}${at % 1000 === 0 ? ',"a ""b"""' : ',plain'}`,
    );
    const data = await openDataset(await files({ 'log.csv': `user,item,time,more\n${rows.join('\n')}` }));
    for (let pass = 0; pass < 2; pass++) {
      let at = 0;
      for await (const row of data.events) {
        if (row.item !== `item-${at}` || lineOf(row) !== at + 2)
          throw new Error(`row ${at} is ${JSON.stringify(row)} on line ${lineOf(row)}`);
        at++;
      }
      expect(at).toBe(count);
    }
  });

  test('reading can stop early and start again', async () => {
    const data = await openDataset(await files({ 'log.csv': 'user,item,time\na,1,1600000000\nb,2,1600000000\n' }));
    for await (const row of data.events) {
      expect(row.user).toBe('a');
      break;
    }
    expect(await all(data.events)).toHaveLength(2);
  });
});

test('provenance names each file with its size and SHA-256, and no folder', async () => {
  const csv = 'user,item,time\na,1,1600000000\n';
  const folder = await files({ 'log.csv': csv });
  const { provenance } = await openDataset(folder);
  expect(provenance.files).toEqual([
    { name: 'log.csv', bytes: csv.length, sha256: createHash('sha256').update(csv).digest('hex') },
  ]);
  expect(JSON.stringify(provenance)).not.toContain(folder);
  expect((await openDataset(folder, { checksum: false })).provenance.files[0].sha256).toBeNull();
});

describe('what is wrong is said in one line, with what to do', () => {
  async function failure(content: Record<string, string | Uint8Array>, name = '', options = {}): Promise<DatasetError> {
    const folder = await files(content);
    const error: unknown = await openDataset(path.join(folder, name), options).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!DatasetError.isInstance(error)) throw new Error(`no DatasetError but ${String(error)}`);
    expect(error.message).not.toContain('\n');
    return error;
  }
  const csv = 'user,item,time\na,1,1600000000\n';

  test('a missing path', async () => {
    const error = await failure({}, 'nowhere');
    expect(PathNotFoundError.isInstance(error) && error.path.endsWith('nowhere')).toBe(true);
    expect(PathNotFoundError.isInstance(await failure({ 'log.csv': csv }, 'log.csv', { metadata: 'nowhere.csv' }))).toBe(true);
  });

  test.each([
    ['nothing', ''],
    ['blank lines', '\n\n'],
    ['a header alone', 'user,item,time\n'],
  ])('an empty file: %s', async (_, content) => {
    const error = await failure({ 'log.csv': content });
    expect(EmptyFileError.isInstance(error) && error.file).toBe('log.csv');
  });

  test('an empty MovieLens file', async () => {
    const movies = { 'movies.csv': 'movieId,title,genres\n1,A,Drama\n' };
    expect(EmptyFileError.isInstance(await failure({ ...movies, 'ratings.csv': 'userId,movieId,rating,timestamp\n' }))).toBe(
      true,
    );
    expect(EmptyFileError.isInstance(await failure({ 'ratings.dat': '' }))).toBe(true);
  });

  test('wrong columns: those that are there are named', async () => {
    const error = await failure({ 'log.csv': 'who,what\na,1\n' });
    expect(MissingColumnError.isInstance(error) && [error.role, error.present]).toEqual(['user', ['who', 'what']]);
    expect(error.message).toMatch(/who, what/);
    const asked = await failure({ 'log.csv': csv }, '', { columns: { rating: 'stars' } });
    expect(MissingColumnError.isInstance(asked) && asked.column).toBe('stars');
    expect(
      MissingColumnError.isInstance(
        await failure({ 'ratings.csv': 'a,b,c,d\n1,2,3,4\n', 'movies.csv': 'movieId,title,genres\n' }),
      ),
    ).toBe(true);
  });

  test.each<[string, Uint8Array]>([
    ['a PNG picture', Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0])],
    ['a zip archive', Uint8Array.from([0x50, 0x4b, 3, 4, 20, 0])],
    ['gzip data', gzipSync(csv)],
    ['UTF-16 text', Buffer.from(`\uFEFF${csv}`, 'utf16le')],
    ['binary data', Uint8Array.from({ length: 300 }, (_, i) => (i * 37) % 256)],
  ])('a binary file named .csv: %s', async (looksLike, content) => {
    const error = await failure({ 'log.csv': content });
    expect(BinaryFileError.isInstance(error) && error.looksLike).toBe(looksLike);
  });

  test('gzip that breaks off, Parquet that is none, one JSON array', async () => {
    const noise = Array.from(
      { length: 30_000 },
      (_, i) => `u${(i * 7919) % 997},i${(i * 104_729) % 9973},${1600000000 + i}`,
    ).join('\n');
    const packed = gzipSync(`user,item,time\n${noise}\n`);
    const data = await openDataset(await files({ 'log.csv.gz': packed.subarray(0, packed.length - 2000) }));
    const broken: unknown = await all(data.events).catch((error: unknown) => error);
    expect(DamagedFileError.isInstance(broken) && broken.file).toBe('log.csv.gz');
    expect(DamagedFileError.isInstance(await failure({ 'log.parquet': 'PAR1 but not really' }))).toBe(true);
    expect((await failure({ 'log.json': '[{"user": 1}]' })).message).toBe(
      'log.json cannot be read: it is one JSON array. Write one object per line.',
    );
  });

  test('a header with columns of one name, or of none', async () => {
    expect((await failure({ 'log.csv': 'user,item,item\na,1,2\n' })).message).toBe(
      'log.csv cannot be read: its first line names the column "item" twice. Rename one of them.',
    );
    expect((await failure({ 'log.csv': 'user,item,,\na,1,,\n' })).message).toBe(
      'log.csv cannot be read: its first line leaves columns without a name. Name them, or take delimiters at its end away.',
    );
  });

  test('an unknown layout: what was found and what was looked for', async () => {
    const error = await failure({ 'notes.md': 'hello', 'picture.png': 'x' });
    expect(UnknownLayoutError.isInstance(error) && error.found).toEqual(['notes.md', 'picture.png']);
    expect(error.message).toMatch(/u\.data/);
    expect(error.message).toMatch(/parent_asin/);
    expect((await failure({})).message).toMatch(/the folder is empty/);
    expect((await failure({ 'a.csv': csv, 'b.csv': 'user,item,other\n1,2,3\n' })).message).toMatch(
      /a\.csv and b\.csv are different tables/,
    );
  });

  test.each([
    ['colums', {}],
    ['timeUnit', 'seconds'],
    ['delimiter', ''],
    ['delimiter', '"'],
    ['categorySeparator', ''],
    ['columns', 'user'],
    ['columns.user', 7, { columns: { user: 7 } }],
    ['itemColumns.item', 'sku', { itemColumns: { item: 'sku' } }],
  ])('an option that cannot work: %s as %j', async (option, value, options: object = { [option]: value }) => {
    const error = await failure({ 'log.csv': csv }, '', options);
    expect(InvalidOptionError.isInstance(error) && [error.option, error.value]).toEqual([option, value]);
  });

  const review = { reviewerID: 'A1', asin: 'B1', overall: 5, reviewText: 'Good.', unixReviewTime: 1393545600 };

  test.each<[string, unknown, string, string]>([
    ['timeUnit', 's', 'reviews.json', lines(review)],
    ['itemColumns', { id: 'sku' }, 'reviews.json', lines(review)],
    ['normaliseTitles', true, 'log.csv', csv],
    ['itemColumns', { id: 'sku' }, 'log.csv', csv],
    ['categorySeparator', ';', 'log.csv', csv],
    ['timeUnit', 'ms', 'log.csv', 'user,item\na,1\n'],
    ['delimiter', ',', 'log.jsonl', lines({ user: 'a', item: '1' })],
    ['columns', { user: 'user' }, 'u.data', '1\t11\t4\t881250949\n'],
  ])('an option that nothing is read by: %s as %j for %s', async (option, value, name, content) => {
    const error = await failure({ [name]: content }, '', { [option]: value });
    expect(InvalidOptionError.isInstance(error) && [error.option, error.wanted]).toEqual([
      option,
      expect.stringMatching(/^left out: nothing in these data \(layout [\w-]+\) is read by it$/),
    ]);
  });

  test('a file of items without a column of ids: the option that names one is told', async () => {
    const folder = await files({ 'items.csv': 'film,name\n11,A\n' });
    const error = await failure({ 'reviews.json': lines(review) }, '', { metadata: path.join(folder, 'items.csv') });
    expect(MissingColumnError.isInstance(error) && error.message).toMatch(
      /items\.csv has no column that looks like the id.*itemColumns: \{ id: '\.\.\.' \}/,
    );
  });
});
