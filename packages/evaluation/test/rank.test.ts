import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { denseRanks, listRank, MISS, nextItemMetrics, permutation, rankingScores } from '../src/index.js';

const nothing: ReadonlySet<number> = new Set<number>();
/** few different scores, so that ties are common */
const scored = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 30 });

describe('rank of the true item', () => {
  test('is the number of items scored higher plus half of those tied with it', () => {
    const scores = Float64Array.of(3, 1, 1, 1, 0);
    expect(denseRanks(scores, 0, nothing)?.unfiltered).toBe(0);
    expect(denseRanks(scores, 2, nothing)?.unfiltered).toBe(2); // one higher, three tied: 1 + floor(2 / 2)
    expect(denseRanks(scores, 4, nothing)?.unfiltered).toBe(4);
  });
  test('of equal scores for everything is the middle, not the top', () => {
    expect(denseRanks(new Float32Array(101), 7, nothing)?.unfiltered).toBe(50);
  });
  test('filtered leaves the history out', () => {
    expect(denseRanks(Float64Array.of(3, 2, 2, 1), 3, new Set([0, 2]))).toEqual({ filtered: 1, unfiltered: 3 });
  });
  test('a true item that is in the history cannot be in the filtered ranking', () => {
    expect(denseRanks(Float64Array.of(3, 2), 0, new Set([0]))).toEqual({ filtered: MISS, unfiltered: 0 });
  });
  test('a score that is not a number is not ranked', () => {
    expect(denseRanks(Float64Array.of(1, NaN), 0, nothing)).toBeUndefined();
  });
  test('does not depend on how the items are numbered', () => {
    fc.assert(
      fc.property(scored, fc.nat(), fc.nat(), fc.array(fc.nat(), { maxLength: 5 }), (scores, pick, seed, excluded) => {
        const target = pick % scores.length;
        const history = new Set(excluded.map((item) => item % scores.length));
        const order = permutation(scores.length, seed);
        const place = (item: number): number => order.indexOf(item);
        const moved = Float64Array.from(order, (item) => scores[item]);
        expect(denseRanks(moved, place(target), new Set([...history].map(place)))).toEqual(
          denseRanks(Float64Array.from(scores), target, history),
        );
      }),
    );
  });
  test('filtering equals ranking the remaining items alone', () => {
    fc.assert(
      fc.property(scored, fc.nat(), fc.array(fc.nat(), { maxLength: 5 }), (scores, pick, excluded) => {
        const target = pick % scores.length;
        const history = new Set(excluded.map((item) => item % scores.length).filter((item) => item !== target));
        const kept = scores.map((_, item) => item).filter((item) => !history.has(item));
        const alone = denseRanks(
          Float64Array.from(kept, (item) => scores[item]),
          kept.indexOf(target),
          nothing,
        );
        expect(denseRanks(Float64Array.from(scores), target, history)?.filtered).toBe(alone?.unfiltered);
      }),
    );
  });
  test('in a list is the place, without excluded and repeated items, down to the depth', () => {
    expect(listRank([5, 4, 4, 3], 3, new Set([5]), 10)).toBe(1);
    expect(listRank([5, 4, 3], 3, nothing, 2)).toBe(MISS);
    expect(listRank([5, 4], 3, nothing, 10)).toBe(MISS);
  });
});

describe('metrics', () => {
  test('lie between 0 and 1, and recall grows with k', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -1, max: 40 }), { minLength: 1 }), (ranks) => {
        const metrics = nextItemMetrics(ranks, 20);
        for (const value of Object.values(metrics)) expect(value).toBeGreaterThanOrEqual(0);
        for (const value of Object.values(metrics)) expect(value).toBeLessThanOrEqual(1);
        expect(metrics['recall@5']).toBeGreaterThanOrEqual(metrics['recall@1'] as number);
        expect(metrics['recall@10']).toBeGreaterThanOrEqual(metrics['ndcg@10'] as number);
      }),
    );
  });
  test('of one true item agree with those of a set of relevant items', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 19 }), (rank) => {
        const ranking = Array.from({ length: 20 }, (_, i) => i);
        const single = nextItemMetrics([rank], 20);
        expect(single['recall@10']).toBe(rankingScores(ranking, new Set([rank]), 10).recall);
        expect(single['ndcg@10']).toBeCloseTo(rankingScores(ranking, new Set([rank]), 10).ndcg, 12);
        expect(single.mrr).toBeCloseTo(rankingScores(ranking, new Set([rank]), 20).mrr, 12);
      }),
    );
  });
  test('a miss, and a rank beyond the depth, add nothing', () => {
    expect(nextItemMetrics([-1, 0, 99], 50)).toEqual({
      'recall@1': 1 / 3,
      'recall@5': 1 / 3,
      'recall@10': 1 / 3,
      'ndcg@10': 1 / 3,
      mrr: 1 / 3,
    });
  });
});
