import { describe, expect, test } from '@jest/globals';
import { bucketOf, type AdaptationExample } from '../src/adaptation/examples.js';
import { mixTasks } from '../src/adaptation/task-mixture.js';
import { AdaptationError } from '../src/errors.js';

/** Examples that can be told apart: the task's letter and a number; `length` tokens of prompt. */
const list = (letter: number, count: number, length: (i: number) => number): AdaptationExample<[number, number]>[] =>
  Array.from({ length: count }, (_, i) => ({
    history: [letter, i],
    promptIds: Array.from({ length: length(i) }, () => 5),
    answerIds: [1],
  }));

const tasks = {
  titles: { examples: list(0, 50, () => 10), weight: 3 },
  genres: { examples: list(1, 7, (i) => 10 + 30 * (i % 2)), weight: 1 },
};

describe('a mixture of tasks', () => {
  const source = mixTasks(tasks, { batchSize: 8, seed: 2 });
  const steps = Array.from({ length: 64 }, (_, i) => source(i + 1));
  const drawn = steps.flat().map(({ history }) => history!);

  test('gives each task its share of the examples', () => {
    expect(steps.every((batch) => batch.length === 8)).toBe(true);
    expect(drawn.filter(([letter]) => letter === 0)).toHaveLength(64 * 8 * (3 / 4));
  });

  test('gives a task of small weight no more than that, and leaves out nothing of the others', () => {
    const weights = [1, 0.001, 2];
    const small = Object.fromEntries(weights.map((weight, i) => [`t${i}`, { weight, examples: list(i, 50, () => 10) }]));
    for (const batchSize of [1, 4]) {
      const mixed = mixTasks(small, { batchSize });
      const counts = weights.map(() => new Map<number, number>());
      for (let step = 1; step <= 1024; step++)
        for (const { history } of mixed(step))
          counts[history![0]].set(history![1], (counts[history![0]].get(history![1]) ?? 0) + 1);
      counts.forEach((of, i) => {
        const times = Array.from({ length: 50 }, (_, j) => of.get(j) ?? 0);
        const expected = (weights[i] / 3.001) * 1024 * batchSize;
        expect(Math.abs(times.reduce((a, b) => a + b, 0) - expected)).toBeLessThanOrEqual(1.5);
        expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(1);
      });
      expect(mixTasks(small, { batchSize })(700)).toEqual(mixed(700));
    }
  });

  test('draws all examples of a task before any of them again', () => {
    const counts = new Map<number, number>();
    for (const [letter, i] of drawn) if (letter === 1) counts.set(i, (counts.get(i) ?? 0) + 1);
    expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
    expect(counts.size).toBe(7);
  });

  test('puts examples of one length together', () => {
    const mixed = steps.filter((batch) => new Set(batch.map(({ promptIds }) => bucketOf(promptIds.length + 1))).size > 1);
    expect(mixed.length).toBeLessThanOrEqual(64 / 16); // one batch of sixteen, where the lengths change
  });

  test('has the same batch for the same step, whichever was asked for before', () => {
    const again = mixTasks(tasks, { batchSize: 8, seed: 2 });
    for (const step of [60, 3, 31, 4]) expect(again(step)).toEqual(steps[step - 1]);
    expect(mixTasks(tasks, { batchSize: 8, seed: 3 })(1)).not.toEqual(steps[0]);
  });

  test('refuses what cannot be drawn from', () => {
    expect(() => mixTasks({})).toThrow(AdaptationError);
    expect(() => mixTasks({ empty: { examples: [] } })).toThrow(/task 'empty'/);
    expect(() => mixTasks({ ...tasks, off: { examples: list(2, 1, () => 1), weight: 0 } })).toThrow(/leave the task out/);
    expect(() => mixTasks(tasks, { batchSize: 0 })).toThrow(/batchSize/);
  });
});
