import { describe, expect, test } from '@jest/globals';
import { BatchPlan, bucketOf, lengthBuckets } from '../src/batches.js';
import type { Span } from '../src/span.js';

/** Users one after another with so many events each. */
function spansOf(counts: readonly number[]): Span[] {
  let at = 0;
  return counts.map((count) => ({ start: at, end: (at += count) }));
}

const counts = [...Array.from({ length: 40 }, (_, i) => i), 100, 333, 1000];
const spans = spansOf(counts);
const context = 40;
const plan = new BatchPlan(spans, context, 8, 5);
const epoch = (of: BatchPlan, index: number): ReturnType<BatchPlan['at']>[] =>
  Array.from({ length: of.stepsPerEpoch }, (_, i) => of.at(index * of.stepsPerEpoch + i + 1));

describe('training batches', () => {
  test('have one size and few lengths, and windows that lie within one user and fit', () => {
    for (const { windows, length } of [...epoch(plan, 0), ...epoch(plan, 1)]) {
      expect(windows).toHaveLength(8);
      expect(lengthBuckets(context)).toContain(length);
      for (const window of windows) {
        if (!window) continue;
        const inputs = window.end - window.start - 1;
        expect(inputs).toBeGreaterThan(0);
        expect(inputs).toBeLessThanOrEqual(length);
        expect(spans.some(({ start, end }) => window.start >= start && window.end <= end)).toBe(true);
      }
    }
  });

  test('cover every short history whole once an epoch, and a long one about once', () => {
    const windows = epoch(plan, 3).flatMap(({ windows: some }) => some.filter((window) => window !== null));
    spans.forEach(({ start, end }, user) => {
      const own = windows.filter((window) => window.start >= start && window.end <= end && end > start);
      const inputs = counts[user] - 1;
      if (inputs < 1) expect(own).toEqual([]);
      else if (inputs <= context) expect(own).toEqual([{ start, end }]);
      else {
        expect(own).toHaveLength(Math.ceil(inputs / context));
        for (const window of own) expect(window.end - window.start).toBe(context + 1);
      }
    });
    expect(plan.targetsPerEpoch).toBe(counts.reduce((sum, count) => sum + Math.max(0, count - 1), 0));
  });

  test('see the first and the last events of a long history as often as those between', () => {
    const long = new BatchPlan(spansOf([400]), 40, 4, 1);
    const seen = new Array<number>(400).fill(0);
    for (let index = 0; index < 400; index++)
      for (const { windows } of epoch(long, index))
        for (const window of windows) for (let e = window ? window.start + 1 : 0; e < (window?.end ?? 0); e++) seen[e]++;
    const mean = seen.reduce((a, b) => a + b) / 399;
    for (const end of [1, 20, 200, 380, 399]) expect(seen[end] / mean).toBeGreaterThan(0.45);
    expect(Math.max(...seen) / mean).toBeLessThan(1.8);
  });

  test('are a function of the seed and the step alone, in whatever order they are asked for', () => {
    const again = new BatchPlan(spans, context, 8, 5);
    const last = 2 * plan.stepsPerEpoch + 3;
    expect(again.at(last)).toEqual(plan.at(last));
    expect(again.at(1)).toEqual(plan.at(1));
    expect(new BatchPlan(spans, context, 8, 6).at(1)).not.toEqual(plan.at(1));
    expect(epoch(plan, 0)).not.toEqual(epoch(plan, 1));
  });

  test('fall together where there are few users', () => {
    const few = new BatchPlan(spansOf([3, 12, 30]), context, 8, 1);
    expect(few.stepsPerEpoch).toBe(1);
    expect(few.at(1).length).toBe(context);
    expect(few.at(1).windows.filter((window) => window === null)).toHaveLength(5);
    expect(new BatchPlan(spansOf([0, 1]), context, 8, 1).stepsPerEpoch).toBe(0);
  });
});

test('length buckets', () => {
  expect(lengthBuckets(200)).toEqual([50, 100, 200]);
  expect(lengthBuckets(1)).toEqual([1]);
  expect([0, 50, 51, 200, 999].map((length) => bucketOf(length, [50, 100, 200]))).toEqual([50, 50, 100, 200, 200]);
});
