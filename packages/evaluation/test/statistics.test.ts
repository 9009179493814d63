import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  averagePrecision,
  averageRanks,
  benjaminiHochberg,
  bootstrap,
  holm,
  mean,
  normalCdf,
  normalQuantile,
  percentile,
  permutation,
  random,
  rankTransform,
  rocAuc,
  signFlipTest,
  spearman,
} from '../src/index.js';

describe('bootstrap', () => {
  const values = Array.from({ length: 60 }, (_, i) => Math.sin(i * 3) + i / 40);
  test('the same seed gives the same interval, another seed another', () => {
    expect(bootstrap(values, { seed: 1 })).toEqual(bootstrap(values, { seed: 1 }));
    expect(bootstrap(values, { seed: 1 })).not.toEqual(bootstrap(values, { seed: 2 }));
  });
  test.each(['percentile', 'bca'] as const)('%s: lies around the mean, and narrows with the level', (method) => {
    const [low, high] = bootstrap(values, { seed: 1, method });
    const [innerLow, innerHigh] = bootstrap(values, { seed: 1, method, level: 0.5 });
    expect(low).toBeLessThan(innerLow);
    expect(innerLow).toBeLessThan(mean(values));
    expect(innerHigh).toBeGreaterThan(mean(values));
    expect(high).toBeGreaterThan(innerHigh);
  });
  test.each(['percentile', 'bca'] as const)('%s: values that do not vary give a point', (method) => {
    expect(bootstrap([2, 2, 2], { seed: 1, method })).toEqual([2, 2]);
  });
  test('of any statistic', () => {
    const [low, high] = bootstrap(values, { seed: 1, statistic: (sample) => Math.max(...sample) });
    expect(high).toBe(Math.max(...values));
    expect(low).toBeLessThan(high);
  });
  test('a value that is no number is in both ends, as it is in the mean', () => {
    expect(bootstrap([1, 2, 3, 4, 5, 6, 7, 8, 9, NaN], { seed: 1 })).toEqual([NaN, NaN]);
    // Drawn by few resamples, too.
    const statistic = (sample: Float64Array): number => (sample[0] === 40 ? NaN : sample[0]);
    expect(bootstrap([...values, 40], { seed: 1, statistic })).toEqual([NaN, NaN]);
  });
  test.each(['percentile', 'bca'] as const)('%s: of one value is that value', (method) => {
    expect(bootstrap([3], { seed: 1, method })).toEqual([3, 3]);
  });
  test('covers the true mean about as often as it says', () => {
    let covered = 0;
    for (let seed = 0; seed < 200; seed++) {
      const source = random(1000 + seed);
      const [low, high] = bootstrap(
        Array.from({ length: 50 }, () => source.uniform()),
        { seed, resamples: 400 },
      );
      if (low <= 0.5 && high >= 0.5) covered++;
    }
    expect(covered).toBeGreaterThan(180);
    expect(covered).toBeLessThanOrEqual(200);
  });
});

describe('sign-flip test', () => {
  test('hits and misses: the closed form equals trying every pattern', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom<number>(-1, 0, 1), { maxLength: 10 }), (differences) => {
        const patterns = 2 ** differences.length;
        const observed = Math.abs(differences.reduce((sum, one) => sum + one, 0));
        let found = 0;
        for (let pattern = 0; pattern < patterns; pattern++) {
          const sum = differences.reduce((total, one, i) => total + ((pattern >> i) & 1 ? one : -one), 0);
          if (Math.abs(sum) >= observed) found++;
        }
        expect(signFlipTest(differences, { seed: 1 }).p).toBeCloseTo(found / patterns, 10);
      }),
    );
  });
  test('no difference at all is p = 1; the sign of all differences does not matter', () => {
    expect(signFlipTest([0, 0], { seed: 1 })).toEqual({ p: 1, exact: true });
    const differences = [0.3, -0.1, 0.7, 0.2, 0.4];
    expect(signFlipTest(differences, { seed: 1 }).p).toBe(
      signFlipTest(
        differences.map((one) => -one),
        { seed: 1 },
      ).p,
    );
  });
  test('of a difference that is no number, or not finite, there is no p value', () => {
    for (const odd of [NaN, Infinity, -Infinity]) {
      expect(signFlipTest([odd, 0.2, 1], { seed: 1 }).p).toBeNaN();
      expect(signFlipTest([odd], { seed: 1 }).p).toBeNaN();
      expect(signFlipTest([odd, ...Array.from({ length: 30 }, (_, i) => i / 7)], { seed: 1 }).p).toBeNaN();
    }
  });
  test('thousands of hits and misses do not overflow', () => {
    const differences = [...new Array<number>(2100).fill(1), ...new Array<number>(1900).fill(-1)];
    // normal approximation with continuity correction: z = 199 / sqrt(4000)
    expect(signFlipTest(differences, { seed: 1 }).p).toBeCloseTo(2 * (1 - normalCdf(199 / Math.sqrt(4000))), 4);
  });
});

test('adjusted p values are never smaller, and Holm is the stricter', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }), (p) => {
      const [strict, mild] = [holm(p), benjaminiHochberg(p)];
      p.forEach((value, i) => {
        expect(mild[i]).toBeGreaterThanOrEqual(value - 1e-12);
        expect(strict[i]).toBeGreaterThanOrEqual(mild[i] - 1e-12);
        expect(strict[i]).toBeLessThanOrEqual(1);
      });
    }),
  );
});

test('normal distribution: known values, and the quantile is the inverse', () => {
  expect(normalCdf(1.959963984540054)).toBeCloseTo(0.975, 14);
  expect(normalCdf(-5)).toBeCloseTo(2.866515718791939e-7, 18);
  for (const p of [1e-6, 0.025, 0.5, 0.8, 0.999]) expect(normalCdf(normalQuantile(p))).toBeCloseTo(p, 12);
});

test('a permutation holds every number once and follows its seed', () => {
  expect([...permutation(50, 7)].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect(permutation(50, 7)).toEqual(permutation(50, 7));
  expect(permutation(50, 7)).not.toEqual(permutation(50, 8));
});

test('scores that are not all numbers have no ranks, and no figure that is made of ranks', () => {
  const scores = [0.3, NaN, 0.1];
  expect([...averageRanks(scores)]).toEqual([NaN, NaN, NaN]);
  expect([...rankTransform(Float64Array.from(scores))]).toEqual([NaN, NaN, NaN]);
  expect(spearman(scores, [1, 2, 3])).toBeNaN();
  expect(rocAuc([1, 0, 0], scores)).toBeNaN();
  expect(averagePrecision([1, 0, 0], scores)).toBeNaN();
  expect(percentile(scores, 20)).toBeNaN();
});
