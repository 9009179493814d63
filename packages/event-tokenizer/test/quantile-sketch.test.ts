import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';

import { QuantileSketch } from '../src/quantile-sketch.js';

fc.configureGlobal({ seed: 20240229 });

function sketchOf(values: Iterable<number>): QuantileSketch {
  const sketch = new QuantileSketch();
  for (const value of values) sketch.add(value);
  return sketch;
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}

describe('QuantileSketch', () => {
  test('gives each distinct value a bucket where they are few', () => {
    expect(sketchOf([3, 1, 2, 2, 2, 1]).bounds(5)).toEqual([2, 3]);
    expect(sketchOf([7, 7]).bounds(5)).toEqual([]);
    expect(sketchOf([]).bounds(5)).toEqual([]);
  });

  test('is exact up to 4,096 distinct values: every bound is the value at its rank', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 400 }),
        fc.integer({ min: 2, max: 12 }),
        (values, buckets) => {
          const sorted = values.toSorted((a, b) => a - b);
          const distinct = [...new Set(sorted)];
          const ranks = Array.from({ length: buckets - 1 }, (_, b) => sorted[Math.floor(((b + 1) * sorted.length) / buckets)]);
          const expected =
            distinct.length <= buckets ? distinct.slice(1) : [...new Set(ranks)].filter((value) => value > sorted[0]);
          const sketch = sketchOf(values);
          expect(sketch.bounds(buckets)).toEqual(expected);
          expect(sketch.rankError).toBe(0);
        },
      ),
    );
  });

  test('with many distinct values stays within the error that it states, in any order of the rows', () => {
    const next = random(7);
    const size = 200_000;
    const orders: [string, (i: number) => number][] = [
      ['random', () => next() ** 3],
      ['ascending', (i) => i],
      ['descending', (i) => -i],
      ['half of it one value', (i) => (i % 2 ? 0.5 : next())],
    ];
    for (const [, value] of orders) {
      const values = Float64Array.from({ length: size }, (_, i) => value(i));
      const sketch = sketchOf(values);
      expect(sketch.rankError).toBeGreaterThan(0);
      expect(sketch.rankError / size).toBeLessThanOrEqual((1 + Math.log2(size / 8192)) / 8192);
      const sorted = values.toSorted();
      const bounds = sketch.bounds(10);
      const target = (bound: number) => {
        let below = 0;
        while (below < size && sorted[below] < bound) below++;
        let through = below;
        while (through < size && sorted[through] === bound) through++;
        return { below, through };
      };
      for (const bound of bounds) {
        const { below, through } = target(bound);
        // The bound's ranks reach to within the error of some tenth.
        const near = Array.from({ length: 9 }, (_, b) => ((b + 1) * size) / 10).some(
          (rank) => rank >= below - sketch.rankError - 1 && rank <= through + sketch.rankError + 1,
        );
        expect(near).toBe(true);
      }
      expect(bounds.length).toBeGreaterThanOrEqual(4);
    }
  });

  test('mean and deviation are those of all values', () => {
    const sketch = sketchOf([2, 4, 4, 4, 5, 5, 7, 9]);
    expect(sketch.mean).toBeCloseTo(5, 12);
    expect(sketch.deviation).toBeCloseTo(2, 12);
  });
});
