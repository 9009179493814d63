import { describe, expect, test } from '@jest/globals';
import {
  blend,
  chooseBlend,
  evaluate,
  leaveOneOut,
  markov,
  mix,
  nextItem,
  popularity,
  rankTransform,
  secondPartWeights,
} from '../src/index.js';
import type { InteractionLog, RankRequest, System } from '../src/index.js';
import { smallLog } from './support/logs.js';

const log = smallLog({ users: 40, items: 15 });
const split = leaveOneOut(log);
const validation = nextItem(split, { on: 'validation' });

/** Scores the item that is asked for `hit`, and every other one nothing. */
const oracle = (hit: number): System => ({
  name: 'oracle',
  rank: ({ history, candidates }: RankRequest) => {
    const scores = new Float64Array(candidates.ids.length);
    scores[log.items[history.to]] = hit;
    return { scores };
  },
});

describe('chooseBlend', () => {
  test('tries weights on validation items and takes those that rank best, as evaluate would rank them', async () => {
    const grid = [
      [1, 0],
      [1, 0.5],
      [0, 1],
      [2, 1],
    ];
    const { weights, tried } = await chooseBlend([markov(), mix()], validation, { grid });
    const report = await evaluate({
      task: validation,
      systems: grid.map((each) => blend([markov(), mix()], each, { name: each.join('+') })),
      seed: 1,
    });
    tried.forEach((one, i) => expect(one['ndcg@10']).toBeCloseTo(report.systems[i].filtered!['ndcg@10']!, 12));
    const best = tried.reduce((a, b) => (b['ndcg@10'] > a['ndcg@10'] ? b : a));
    expect(weights).toEqual(best.weights);
    // Twice the weights order items alike.
    expect(tried[3]['ndcg@10']).toBeCloseTo(tried[1]['ndcg@10'], 12);
  });

  test('where items come again, chooses by the ranking that holds them', async () => {
    // Everybody plays the same three songs over and over; the next one is known from the last.
    const songs = Array.from({ length: 20 * 12 }, (_, i) => (Math.floor(i / 12) + (i % 12)) % 3);
    const again: InteractionLog = {
      users: log.users.slice(0, 20),
      offsets: Int32Array.from({ length: 21 }, (_, user) => 12 * user),
      items: Int32Array.from(songs),
      itemIds: log.itemIds,
    };
    const task = nextItem(leaveOneOut(again), { on: 'validation' });
    const grid = [
      [1, 0],
      [0, 1],
    ];
    const unfiltered = await chooseBlend([popularity(), markov()], task, { grid, ranking: 'unfiltered' });
    expect(unfiltered.weights).toEqual([0, 1]);
    expect(unfiltered.tried[1]['ndcg@10']).toBeCloseTo(1, 12);
    const filtered = await chooseBlend([popularity(), markov()], task, { grid });
    expect(filtered.tried.map((one) => one['ndcg@10'])).toEqual([0, 0]);
    await expect(chooseBlend([popularity(), markov()], task, { ranking: 'all' as never })).rejects.toThrow(
      "'all' is neither 'filtered' nor 'unfiltered'",
    );
  });

  test('leaves out a part that only harms, and asks each part once per user', async () => {
    let asked = 0;
    const knowing = oracle(1);
    const counted: System = { ...knowing, rank: (request) => (asked++, knowing.rank!(request)) };
    const { weights } = await chooseBlend([counted, popularity()], validation);
    expect(weights).toEqual([1, 0]);
    expect(asked).toBe(validation.cases.length);
    expect(secondPartWeights[0]).toBe(0);
  });

  test('fits parts to what came before the validation items', async () => {
    const ends: Int32Array[] = [];
    const spy: System = { ...oracle(-1), fit: ({ end }) => void ends.push(end) };
    const { weights } = await chooseBlend([spy, oracle(1)], validation, { transforms: [rankTransform, rankTransform] });
    expect(ends).toEqual([split.trainEnd]);
    expect(weights[1]).toBeGreaterThan(1);
  });

  test('says what is wrong with a grid, an answer or a part', async () => {
    await expect(chooseBlend([mix()], validation)).rejects.toThrow('say which weights to try for 1 systems');
    await expect(chooseBlend([mix()], validation, { grid: [] })).rejects.toThrow('at least one set of weights');
    await expect(chooseBlend([mix()], validation, { grid: [[1, 2]] })).rejects.toThrow('1 systems need as many weights');
    const narrow: System = { name: 'narrow', rank: () => ({ doesNotFit: 'too long' }) };
    await expect(chooseBlend([mix(), narrow], validation)).rejects.toThrow('cannot answer for every user');
    await expect(chooseBlend([mix(), oracle(NaN)], validation)).rejects.toThrow('not a number');
    for (const length of [14, 16]) {
      const other: System = { name: 'other', rank: () => ({ scores: new Float64Array(length) }) };
      for (const parts of [
        [mix(), other],
        [other, mix()],
      ])
        await expect(chooseBlend(parts, validation)).rejects.toThrow(
          `System "other" returned ${length} scores for 15 candidates`,
        );
    }
  });

  test('stops when it is told to', async () => {
    const stop = AbortSignal.abort(new Error('enough'));
    await expect(chooseBlend([mix(), popularity()], validation, { signal: stop })).rejects.toThrow('enough');
  });
});
