import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EventTokenizer, FIRST_VALUE_ID, UNKNOWN_ID, type CategoricalColumn, type Row } from '@user-llm/event-tokenizer';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { dualEncoder, NoLabelTowerError, UserEncoder } from '../src/index.js';
import { cinemaRows, schema, small } from './support.js';

jest.setTimeout(60_000);

const folder = await mkdtemp(path.join(tmpdir(), 'cold-start-'));
afterAll(() => rm(folder, { recursive: true }));

// After film n comes film n + 3; every user begins with film 2 or film 5.
const rows: Row[] = cinemaRows({ users: 24 }).filter(
  ({ user }) => Number(String(user).slice(5)) % 8 === 2 || Number(String(user).slice(5)) % 8 === 5,
);
for (let user = 0; user < 24; user++) rows.push(...story(`more-${user}`, user % 2 === 0 ? 2 : 5, 4 + (user % 10)));
const tokenizer = await EventTokenizer.fit(schema, () => rows);
const events = await tokenizer.encode(rows);
const settings = { batch: 8, learningRate: 5e-3, threads: 1, validation: 'none' } as const;

function story(user: string, first: number, length: number): Row[] {
  return Array.from({ length }, (_, i) => event(user, `film-${(first + 3 * i) % 8}`, (first + 3 * i) % 8, i));
}

/** A film with the genres, the rating and the review of `like`. */
function event(user: string, film: string, like: number, i: number): Row {
  const known = cinemaRows().find((row) => row.film === `film-${like}`)!;
  return { ...known, user, film, at: 1_700_000_000 + i * 3600 };
}

const place = (film: number): number => tokenizer.vocabulary('film').indexOf(`film-${film}`);
/** Films in the order of their scores. */
const ranking = (scores: Float32Array): number[] =>
  Array.from({ length: 8 }, (_, film) => film).sort((a, b) => scores[place(b)] - scores[place(a)]);

describe('users without a history', () => {
  let trained: UserEncoder;
  beforeAll(async () => {
    trained = await UserEncoder.create(tokenizer, small, { threads: 1 }).pretrain(events, { ...settings, steps: 250 }).result;
  });

  test('no event: what users begin with', async () => {
    const nobody = { ...events, users: ['nobody'], offsets: Int32Array.of(0, 0) };
    const scores = await trained.scoreHistory(nobody, 'nobody');
    expect(new Set(ranking(scores).slice(0, 2))).toEqual(new Set([2, 5]));
    const all = scores.subarray(FIRST_VALUE_ID).reduce((sum, score) => sum + Math.exp(score), 0);
    const begins = [2, 5].map((film) => Math.exp(scores[place(film)]) / all);
    // Half of the users begin with either.
    for (const share of begins) expect(Math.abs(share - 0.5)).toBeLessThan(0.15);
    const { data } = await trained.encodeUser(nobody, 'nobody');
    expect(data.every(Number.isFinite)).toBe(true);
  });

  test('one event: what comes after it', async () => {
    for (const film of [2, 5]) {
      const one = await tokenizer.encode(story('new', film, 1));
      expect(ranking(await trained.scoreHistory(one, 'new'))[0]).toBe((film + 3) % 8);
    }
  });
});

describe('items never seen', () => {
  /** How far up the films of the genre stand that follows, when the last film is new: 0 is the top. */
  async function placesOfNext(encoder: UserEncoder): Promise<number[]> {
    const places: number[] = [];
    for (const like of [0, 1, 2, 3]) {
      // The first film is known, the two after it are new ones like others of their genres.
      const found = await tokenizer.encode([
        event('a', `film-${(like + 2) % 8}`, (like + 2) % 8, 0),
        event('a', `new-${like + 5}`, (like + 5) % 8, 1),
        event('a', `new-${like}`, like, 2),
      ]);
      expect([...(found.fields.film as CategoricalColumn).ids.subarray(1)]).toEqual([UNKNOWN_ID, UNKNOWN_ID]);
      places.push(ranking(await encoder.scoreHistory(found, 'a')).indexOf((like + 3) % 8));
    }
    return places;
  }

  test('are read by their other fields, when training has hidden items', async () => {
    const fresh = UserEncoder.create(tokenizer, small, { threads: 1 });
    const hidden = await fresh.pretrain(events, { ...settings, steps: 300, augmentation: { unknown: 0.3 } }).result;
    expect(Math.max(...(await placesOfNext(hidden)))).toBeLessThanOrEqual(1);
  });

  test('have a label that their other fields make', async () => {
    const objective = dualEncoder({ fields: ['genres', 'review'], unknown: 0.3 });
    const fresh = UserEncoder.create(tokenizer, small, { threads: 1 });
    const trained = await fresh.pretrain(events, { ...settings, steps: 300, objective }).result;
    const like = [0, 1, 2, 3, 4, 5, 6, 7];
    const catalogue = await tokenizer.encode(like.map((film, i) => event('new', `new-${film}`, film, i)));
    const known = await tokenizer.encode(like.map((film, i) => event('known', `film-${film}`, film, i)));
    for (const user of ['more-0', 'more-3', 'more-9']) {
      const byId = await trained.scoreHistory(events, user);
      const byFields = await trained.scoreItems(events, user, known);
      // A known film's fields say what its id does.
      like.forEach((film) => expect(byFields[film]).toBeCloseTo(byId[place(film)], 3));
      // The new film that stands first has the genres of the known one that does.
      const scores = await trained.scoreItems(events, user, catalogue);
      expect(scores.indexOf(Math.max(...scores)) % 4).toBe(ranking(byId)[0] % 4);
    }
    const other = await fresh.scoreItems(events, 0, catalogue).catch((error: unknown) => error);
    expect(NoLabelTowerError.isInstance(other)).toBe(true);
    await trained.save(folder);
    const loaded = await UserEncoder.load(folder);
    expect(await loaded.scoreItems(events, 0, catalogue)).toEqual(await trained.scoreItems(events, 0, catalogue));
  });
});
