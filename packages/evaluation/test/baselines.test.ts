import { describe, expect, test } from '@jest/globals';
import {
  blend,
  evaluate,
  itemKnn,
  leaveOneOut,
  markov,
  mix,
  mostFrequentGenre,
  nextItem,
  popularity,
  rankTransform,
  zScores,
} from '../src/index.js';
import type { InteractionLog, MixOptions, RankRequest, System, TrainingData } from '../src/index.js';
import { smallLog } from './support/logs.js';

const log = smallLog({ users: 40, items: 15 });
const { trainEnd } = leaveOneOut(log);
const train: TrainingData = { log, end: trainEnd };
const request = (user: number): RankRequest => {
  const [from, to] = [log.offsets[user], log.offsets[user + 1] - 1];
  return {
    user: log.users[user],
    userIndex: user,
    history: { items: log.items.subarray(from, to), from, to },
    candidates: { ids: log.itemIds, categories: log.categories },
    exclude: new Set(),
    depth: 100,
  };
};
async function scoresOf(system: System, user: number): Promise<number[]> {
  await system.fit?.(train);
  const answer = await system.rank?.(request(user));
  if (!answer || !('scores' in answer)) throw new Error('no scores');
  return [...answer.scores];
}

/** The same counts with dense matrices and no cleverness. */
function dense({ items, itemIds, offsets, users }: InteractionLog): { n: number[]; transitions: number[][]; both: number[][] } {
  const square = (): number[][] => itemIds.map(() => itemIds.map(() => 0));
  const [n, transitions, both] = [itemIds.map(() => 0), square(), square()];
  users.forEach((_, user) => {
    const mine = [...items.subarray(offsets[user], trainEnd[user])];
    mine.forEach((item, i) => {
      n[item]++;
      if (i > 0) transitions[mine[i - 1]][item]++;
    });
    const owned = [...new Set(mine)];
    for (const a of owned) for (const b of owned) if (a !== b) both[a][b]++;
  });
  return { n, transitions, both };
}

describe('counting baselines', () => {
  const { n, transitions, both } = dense(log);
  const popular = n.map((events) => (1e-6 * events) / Math.max(...n));
  const row = (a: number): number[] =>
    transitions[a].map(
      (count) =>
        count /
        Math.max(
          1,
          transitions[a].reduce((sum, one) => sum + one, 0),
        ),
    );
  const recent = (user: number, part: (a: number, j: number) => number): number[] => {
    const last = [...request(user).history.items].slice(-10).reverse();
    return popular.map((score, j) => last.reduce((sum, a, back) => sum + 0.8 ** back * part(a, j), score));
  };
  const cosine = (a: number, j: number): number => (both[a][j] === 0 ? 0 : both[a][j] / Math.sqrt(n[a] * n[j]));
  const close = (found: number[], expected: number[]): void =>
    found.forEach((score, j) => expect(score).toBeCloseTo(expected[j], 10));

  test.each([0, 7, 39])('follow their formulas (user %i)', async (user) => {
    const last = request(user).history.items.at(-1) as number;
    close(await scoresOf(popularity(), user), popular);
    close(
      await scoresOf(markov(), user),
      row(last).map((share, j) => share + popular[j]),
    );
    close(await scoresOf(itemKnn(), user), recent(user, cosine));
    close(
      await scoresOf(mix(), user),
      recent(user, (a, j) => row(a)[j] + 0.02 * cosine(a, j)),
    );
  });
  test('an option that is left undefined has its default', async () => {
    const { last, decay, neighbours }: MixOptions = {};
    expect(await scoresOf(mix({ last, decay, neighbours }), 7)).toEqual(await scoresOf(mix(), 7));
    expect(await scoresOf(itemKnn({ last, decay }), 7)).toEqual(await scoresOf(itemKnn(), 7));
  });
  test('never look at the last two events of a user', async () => {
    const items = log.items.slice();
    for (let user = 0; user < log.users.length; user++) for (let i = trainEnd[user]; i < log.offsets[user + 1]; i++) items[i] = 0;
    const before = await scoresOf(popularity(), 0);
    const system = popularity();
    system.fit({ log: { ...log, items }, end: trainEnd });
    expect([...system.rank(request(0)).scores]).toEqual(before);
  });
  test('want to be fitted first', () => {
    expect(() => mix().rank(request(0))).toThrow('before fit(train)');
  });
});

test('most frequent genre: ties go to the genre that stands first in the list', () => {
  const ask = (items: number[], labels: string[]): unknown =>
    mostFrequentGenre().classify({
      ...request(0),
      history: { items: Int32Array.from(items), from: 0, to: items.length },
      candidates: { ids: ['x', 'y'], categories: [['Drama'], ['Comedy']] },
      labels,
    });
  expect(ask([0, 1], ['Comedy', 'Drama'])).toMatchObject({ label: 'Comedy' });
  expect(ask([0, 1], ['Drama', 'Comedy'])).toMatchObject({ label: 'Drama' });
  expect(ask([0, 0, 1, -1], ['Comedy', 'Drama'])).toMatchObject({ label: 'Drama' });
});

describe('blend', () => {
  test('adds weighted, transformed scores; one part alone keeps its ranking', async () => {
    const [left, right] = [await scoresOf(markov(), 3), await scoresOf(popularity(), 3)];
    const both = await scoresOf(blend([markov(), popularity()], [1, 0.5], { name: 'both' }), 3);
    const [a, b] = [zScores(Float64Array.from(left)), zScores(Float64Array.from(right))];
    both.forEach((score, j) => expect(score).toBeCloseTo(a[j] + 0.5 * b[j], 12));
    const alone = await evaluate({
      task: nextItem(leaveOneOut(log)),
      systems: [mix(), blend([mix()], [2], { name: 'mix alone', transforms: [rankTransform] })],
      seed: 1,
    });
    expect(alone.systems[1].filtered).toEqual(alone.systems[0].filtered);
  });
  test('wants a weight for each part, and dense parts', async () => {
    expect(() => blend([mix()], [1, 2])).toThrow('1 systems need as many weights');
    const list: System = { name: 'list', rank: () => ({ items: [] }) };
    await expect(scoresOf(blend([list], [1]), 0)).rejects.toThrow('only systems with a score for every candidate');
  });
});
