import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import {
  categorical,
  categories,
  EventTokenizer,
  eventSchema,
  item,
  number,
  text,
  time,
  TokenizerFormatError,
  TokenizerHashError,
  TokenizerMismatchError,
  TokenizerVersionError,
  UnknownFieldError,
} from '../src/index.js';

const schema = eventSchema({
  user: 'user',
  time: time('at', { unit: 'ms', utcOffsetMinutes: 60 }),
  fields: {
    film: item('film'),
    genres: categories('genres'),
    score: number('score', { buckets: 3 }),
    device: categorical('device'),
    note: text('note'),
  },
});
const rows = Array.from({ length: 60 }, (_, i) => ({
  user: `u${i % 7}`,
  at: 1.7e12 + i * 1e5,
  film: i % 11,
  genres: [`g${i % 3}`, `h${i % 4}`],
  score: i / 7,
  device: i % 5 ? 'tv' : null,
  note: `note ${i}`,
}));

let folder: string;
let tokenizer: EventTokenizer;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'event-tokenizer-'));
  tokenizer = await EventTokenizer.fit(schema, rows);
});
afterAll(() => rm(folder, { recursive: true }));

async function load(name: string, content: string): Promise<unknown> {
  const file = path.join(folder, name);
  await writeFile(file, content);
  return EventTokenizer.load(file).catch((error: unknown) => error);
}

describe('save and load', () => {
  test('give the same tokenizer: hash, fields, and columns', async () => {
    const file = path.join(folder, 'saved.json');
    await tokenizer.save(file);
    const loaded = await EventTokenizer.load(file);
    expect(loaded.hash).toBe(tokenizer.hash);
    expect(loaded.hash).toMatch(/^[0-9a-f]{64}$/);
    expect(loaded.fields).toEqual(tokenizer.fields);
    expect(await loaded.encode(rows)).toEqual(await tokenizer.encode(rows));
    expect(JSON.stringify(EventTokenizer.fromJSON(JSON.parse(JSON.stringify(tokenizer))))).toBe(JSON.stringify(tokenizer));
  });

  test('saving over a file leaves no part, and saving into nowhere leaves nothing', async () => {
    const own = path.join(folder, 'own');
    await mkdir(own);
    const file = path.join(own, 'tokenizer.json');
    await writeFile(file, 'old');
    await tokenizer.save(file);
    expect(await readdir(own)).toEqual(['tokenizer.json']);
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ hash: tokenizer.hash, version: 1 });
    // A folder stands where the file should go: the part is taken away again.
    await mkdir(path.join(own, 'taken'));
    await expect(tokenizer.save(path.join(own, 'taken'))).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await readdir(own)).toEqual(['taken', 'tokenizer.json']);
    await expect(tokenizer.save(path.join(own, 'no/such/folder.json'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('the hash changes with anything that changes an id or a value', async () => {
    const saved = JSON.stringify(tokenizer);
    const edits: [string, string][] = [
      ['"g0"', '"g9"'],
      ['"utcOffsetMinutes":60', '"utcOffsetMinutes":61'],
      ['"column":"film"', '"column":"movie"'],
      ['"unit":"ms"', '"unit":"s"'],
      ['"gapBuckets":32', '"gapBuckets":31'],
    ];
    for (const [from, to] of edits) {
      expect(saved).toContain(from);
      const error = await load('edited.json', saved.replace(from, to));
      expect(TokenizerHashError.isInstance(error)).toBe(true);
      expect((error as Error).message).toContain('changed or damaged');
    }
    const other = await EventTokenizer.fit(schema, rows.slice(1));
    expect(other.hash).not.toBe(tokenizer.hash);
  });

  test('fields in another order are another tokenizer', () => {
    const saved = tokenizer.toJSON();
    const reversed = <T>(record: Record<string, T>) => Object.fromEntries(Object.entries(record).reverse());
    const swapped = {
      ...saved,
      schema: { ...saved.schema, fields: reversed(saved.schema.fields) },
      fields: reversed(saved.fields),
    };
    expect(() => EventTokenizer.fromJSON(swapped)).toThrow(expect.objectContaining({ name: 'TokenizerHashError' }));
  });

  test('a newer format version is refused with the advice to update', async () => {
    const error = await load('newer.json', JSON.stringify({ ...tokenizer.toJSON(), version: 2 }));
    expect(TokenizerVersionError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ found: 2, supported: 1 });
    expect((error as Error).message).toContain('Update @user-llm/event-tokenizer');
  });

  test('what is no tokenizer is refused with the reason', async () => {
    const saved = JSON.stringify(tokenizer);
    const cases: [unknown, string][] = [
      [await load('cut.json', saved.slice(0, 200)), 'it is not JSON, or was cut short'],
      [await load('empty.json', ''), 'it is not JSON'],
      [await load('other.json', '{"model":"x"}'), 'it does not say "format"'],
      [await load('list.json', '[]'), 'it does not say "format"'],
      [await load('twice.json', saved.replace('"h1"', '"h0"')), 'a value stands in the vocabulary twice'],
      [await load('special.json', saved.replace('"h1"', '"[mask]"')), 'the name of a special id'],
      [await load('bounds.json', saved.replace(/"bounds":\[[^\]]*\]/, '"bounds":[2,1]')), 'bounds must ascend'],
      [await load('fewer.json', saved.replace('"note":{"kind":"text"}', '"memo":{"kind":"text"}')), 'not the same fields'],
      [await EventTokenizer.load(path.join(folder, 'none.json')).catch((error: unknown) => error), 'there is no such file'],
      [await EventTokenizer.load(folder).catch((error: unknown) => error), 'it is a folder'],
    ];
    for (const [error, reason] of cases) {
      expect(TokenizerFormatError.isInstance(error)).toBe(true);
      expect((error as Error).message).toContain(reason);
    }
  });
});

describe('looking up', () => {
  test('vocabulary and id are inverse; numbers show their ranges', () => {
    for (const field of ['film', 'genres', 'device'])
      tokenizer.vocabulary(field).forEach((value, id) => id >= 4 && expect(tokenizer.id(field, value)).toBe(id));
    expect(tokenizer.id('film', 'never seen')).toBe(2);
    expect([null, undefined, '', NaN].map((value) => tokenizer.id('device', value))).toEqual([3, 3, 3, 3]);
    expect(tokenizer.vocabulary('score')).toHaveLength(4 + 3);
    expect(tokenizer.vocabulary('score')[4]).toMatch(/^< 2\.85/);
    expect([0, 5, 99, null].map((value) => tokenizer.id('score', value))).toEqual([4, 5, 6, 3]);
  });

  test('a field without ids, and a value of the wrong kind, are refused', () => {
    for (const field of ['note', 'time', 'nothing', 'toString']) {
      expect(() => tokenizer.vocabulary(field)).toThrow(expect.objectContaining({ name: 'UnknownFieldError', field }));
      expect(() => tokenizer.id(field, 'x')).toThrow(expect.objectContaining({ name: 'UnknownFieldError' }));
    }
    expect(UnknownFieldError.isInstance(new Error('x'))).toBe(false);
    expect(() => tokenizer.id('film', {})).toThrow('an object cannot be a value of this field');
    expect(() => tokenizer.id('score', 'x')).toThrow('"x" cannot be a value of this field');
  });

  test("another tokenizer's events are not decoded", async () => {
    const other = await EventTokenizer.fit(schema, rows.slice(1));
    const events = await other.encode(rows);
    expect(() => tokenizer.decode(events)).toThrow(expect.objectContaining({ name: 'TokenizerMismatchError' }));
    expect(TokenizerMismatchError.isInstance(null)).toBe(false);
  });
});
