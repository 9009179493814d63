import { describe, expect, jest, test } from '@jest/globals';
import { EventTokenizer } from '@user-llm/event-tokenizer';

import { InvalidOptionError, simulateFilmService } from '../src/index.js';
import { floors } from './floors.js';
import { all } from './helpers.js';

jest.setTimeout(60_000);

const service = simulateFilmService();
const { truth } = service;
const events = await all(service.events);
const items = await all(service.items);
const byUser = new Map<string, typeof events>();
for (const event of events) {
  const user = event.user as string;
  if (!byUser.has(user)) byUser.set(user, []);
  byUser.get(user)!.push(event);
}
const histories = [...byUser.values()];
const itemIndex = new Map(truth.itemIds.map((id, index) => [id, index]));

describe('the default service', () => {
  test('says that it is simulated', () => {
    expect(service.simulated).toBe(true);
    expect(service.name).toMatch(/simulated/);
    expect(service.provenance.notes.join()).toMatch(/Simulated/);
  });

  test('has the promised size', () => {
    expect(byUser.size).toBeGreaterThanOrEqual(1000);
    expect(histories.filter((history) => history.length >= 200).length).toBeGreaterThanOrEqual(200);
    expect(Math.min(...histories.map((history) => history.length))).toBeGreaterThanOrEqual(20);
    expect(items.length).toBeGreaterThanOrEqual(1000);
    expect(events.length).toBeGreaterThan(100_000);
    expect(events.length).toBeLessThan(130_000);
    expect(service.size).toEqual({ users: byUser.size, items: items.length, events: events.length });
  });

  test('has rows as a reader of real data gives them', () => {
    const titles = new Map(items.map((item) => [item.id, item]));
    for (const history of histories) {
      let last = 0;
      const seen = new Set<unknown>();
      for (const { item, time, rating, title, categories } of history) {
        const film = titles.get(item as string)!;
        if (film.title !== title || film.categories !== categories || seen.has(item) || !((time as number) > last))
          throw new Error('a wrong row');
        if (!(Number.isInteger(2 * (rating as number)) && (rating as number) >= 0.5 && (rating as number) <= 5))
          throw new Error('a wrong rating');
        seen.add(item);
        last = time as number;
      }
    }
    const share = events.filter(({ text }) => text !== undefined).length / events.length;
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.35);
  });

  test('has titles with years, mostly unique, and sequels that share their stem', () => {
    expect(items.every(({ title }) => /^.+ \(\d{4}\)$/.test(title))).toBe(true);
    expect(new Set(items.map(({ title }) => title)).size).toBeGreaterThan(0.97 * items.length);
    const second = items.find(({ part }) => part === 2)!;
    const first = items.find(({ series, part }) => series === second.series && part === 1)!;
    expect(second.title.replace(/ 2 \(\d+\)/, '')).toBe(first.title.replace(/ \(\d+\)/, ''));
    expect(new Set(items.flatMap(({ categories }) => categories)).size).toBe(18);
  });

  test('can be tokenized with the schema it suggests', async () => {
    const tokenizer = await EventTokenizer.fit(service.schema, () => service.eventBatches);
    const columns = await tokenizer.encode(service.eventBatches);
    expect(columns.rejected).toEqual([]);
    expect(columns.users).toHaveLength(byUser.size);
  });
});

describe('the seed', () => {
  const small = (seed: number) => simulateFilmService({ seed, users: 40, items: 300 });

  test('decides everything', async () => {
    expect(small(5).provenance).toEqual(small(5).provenance);
    expect(await all(small(5).events)).toEqual(await all(small(5).events));
    expect(small(6).provenance.files[0].sha256).not.toBe(small(5).provenance.files[0].sha256);
  });

  test('gives the same rows on every machine', () => {
    expect(small(1).provenance.files[0].sha256).toBe('faa98540e070c3e05f528b03e26f60469df9bf8d0c4f7e04b34e0c43e21adabb');
  });
});

describe('the truth', () => {
  const users = histories.map((history) => history[0].user as string).filter((_, at) => at % 8 === 0);
  const lastOf = (user: string) => itemIndex.get(byUser.get(user)!.at(-1)!.item as string)!;

  test('is a distribution over the films not yet watched', () => {
    const [user] = users;
    const next = truth.nextProbabilities(user, 30);
    expect(next.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 9);
    for (const { item } of byUser.get(user)!.slice(0, 30)) expect(next[itemIndex.get(item as string)!]).toBe(0);
    const taste = truth.taste(user, 30);
    expect(taste.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 9);
    const interests = taste.filter((weight) => weight > 0).length;
    expect(interests).toBeGreaterThanOrEqual(1);
    expect(interests).toBeLessThanOrEqual(4);
  });

  test('drifts', () => {
    const moved = users.filter((user) => {
      const [before, after] = [truth.taste(user, 0), truth.taste(user)];
      return before.some((weight, theme) => weight > 0 !== after[theme] > 0);
    });
    expect(moved.length).toBeGreaterThan(users.length / 3);
  });

  test('is calibrated: what it gives probability p happens as often', () => {
    const bins = [0, 0.02, 0.1, 0.3, 1];
    const expected = new Float64Array(4);
    const happened = new Float64Array(4);
    for (const user of users) {
      const last = lastOf(user);
      truth.nextProbabilities(user, byUser.get(user)!.length - 1).forEach((p, film) => {
        const bin = bins.findIndex((edge) => p < edge) - 1;
        if (bin < 0) return;
        expected[bin] += p;
        if (film === last) happened[bin]++;
      });
    }
    for (let bin = 0; bin < 4; bin++)
      expect(Math.abs(happened[bin] - expected[bin])).toBeLessThan(4 * Math.sqrt(expected[bin]) + 1);
  });

  test('the sequel to a liked film of late is far likelier than its popularity alone would make it', () => {
    const counts = new Map<number, number>();
    for (const { item } of events)
      counts.set(itemIndex.get(item as string)!, (counts.get(itemIndex.get(item as string)!) ?? 0) + 1);
    const share = (film: number) => (counts.get(film) ?? 0) / events.length;
    let truthMass = 0;
    let popularMass = 0;
    for (const user of users) {
      const history = byUser.get(user)!;
      const watched = new Set(history.map(({ item }) => itemIndex.get(item as string)!));
      const next = truth.nextProbabilities(user);
      for (const { item, rating } of history.slice(-15, -6)) {
        const sequel = truth.sequels[itemIndex.get(item as string)!];
        if ((rating as number) < 2.5 || sequel < 0 || watched.has(sequel)) continue;
        truthMass += next[sequel];
        popularMass += share(sequel);
      }
    }
    expect(truthMass).toBeGreaterThan(20 * popularMass);
  });

  test('refuses users and events that do not exist', () => {
    for (const ask of [
      () => truth.taste('u0'),
      () => truth.taste('toString'),
      () => truth.nextProbabilities('u1', -1),
      () => truth.taste('u1', 1e6),
    ]) {
      expect(ask).toThrow(InvalidOptionError);
    }
  });
});

test('is hard for counting and far from hopeless: popularity < neighbours and transitions < truth', () => {
  const log = histories.map((history) => Int32Array.from(history, ({ item }) => itemIndex.get(item as string)!));
  const counted = floors(log, items.length);
  const truthHits = histories.filter((history) => {
    const next = truth.nextProbabilities(history[0].user as string, history.length - 1);
    const target = next[itemIndex.get(history.at(-1)!.item as string)!];
    return next.reduce((better, p) => better + (p > target ? 1 : 0), 0) < 10;
  });
  const oracle = truthHits.length / histories.length;
  expect(counted.popularity).toBeGreaterThan(0.02);
  expect(counted.popularity).toBeLessThan(0.07);
  expect(counted.mix).toBeGreaterThan(0.12);
  expect(counted.mix).toBeLessThan(0.22);
  expect(oracle).toBeGreaterThan(0.45);
  expect(oracle).toBeLessThan(0.75);
});

test('sizes that cannot be simulated are refused', () => {
  for (const options of [{ users: 0 }, { items: 99 }, { seed: 0.5 }, { users: NaN }]) {
    expect(() => simulateFilmService(options)).toThrow(InvalidOptionError);
  }
});
