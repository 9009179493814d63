import { describe, expect, jest, test } from '@jest/globals';
import {
  blend,
  evaluate,
  favouriteGenre,
  leaveOneOut,
  mix,
  mostFrequentGenre,
  nextItem,
  popularity,
  SystemFailedError,
} from '../src/index.js';
import type { Outcome, RankRequest, RankResult, System } from '../src/index.js';
import { smallLog } from './support/logs.js';

const log = smallLog();
const task = nextItem(leaveOneOut(log));
const truth = (request: RankRequest): string => log.itemIds[log.items[request.history.to]];
const oracle: System = {
  name: 'oracle',
  rank: (request) => ({ items: [{ id: truth(request), score: 1 }], cost: { tokens: 10, flops: 1e6 } }),
};
const scoreless: System = {
  name: 'indifferent',
  rank: ({ candidates }) => ({ scores: new Float32Array(candidates.ids.length) }),
};

describe('evaluate', () => {
  test('ranks every test user with every system, filtered and unfiltered', async () => {
    const report = await evaluate({ task, systems: [popularity(), mix(), oracle], seed: 1 });
    expect(report.systems.map(({ name, users }) => [name, users])).toEqual([
      ['popularity', 30],
      ['mix', 30],
      ['oracle', 30],
    ]);
    const perfect = report.systems[2];
    expect(perfect.unfiltered).toEqual({ 'recall@1': 1, 'recall@5': 1, 'recall@10': 1, 'ndcg@10': 1, mrr: 1 });
    // the true items met before cannot stand in a filtered ranking, not even in a perfect one
    expect(perfect.filtered?.['recall@1']).toBeCloseTo(1 - task.description.repeatedTargets / 30, 12);
    expect(perfect).toMatchObject({ tokensPerRequest: 10, flopsPerRequest: 1e6 });
    expect(perfect.latencyMs.p50).toBeGreaterThanOrEqual(0);
    const [low, high] = report.systems[1].ci95['recall@10'] as [number, number];
    expect(low).toBeLessThanOrEqual(report.systems[1].filtered?.['recall@10'] as number);
    expect(high).toBeGreaterThanOrEqual(report.systems[1].filtered?.['recall@10'] as number);
  });

  test('asks a dense system once per user, a list system twice: without and with the history', async () => {
    const dense = jest.fn(scoreless.rank as NonNullable<System['rank']>);
    const list = jest.fn(oracle.rank as NonNullable<System['rank']>);
    await evaluate({
      task,
      systems: [
        { name: 'dense', rank: dense },
        { name: 'list', rank: list },
      ],
      seed: 1,
    });
    expect(dense).toHaveBeenCalledTimes(30);
    expect(list).toHaveBeenCalledTimes(60);
    expect(list.mock.calls[0][0].exclude.size).toBeGreaterThan(0);
    expect(list.mock.calls[1][0].exclude.size).toBe(0);
  });

  test('a list that misses the true item counts as a miss; items of the history do not take a place', async () => {
    const wrong: System = {
      name: 'wrong',
      rank: (request) => ({
        items: request.candidates.ids.filter((id) => id !== truth(request)).map((id) => ({ id, score: 0 })),
      }),
    };
    const stubborn: System = {
      name: 'stubborn',
      rank: (request) => ({
        items: [...new Set([...request.history.items].map((item) => log.itemIds[item]).concat(truth(request)))].map((id) => ({
          id,
          score: 0,
        })),
      }),
    };
    const report = await evaluate({ task, systems: [wrong, stubborn], seed: 1 });
    expect(report.systems[0].unfiltered).toEqual({ 'recall@1': 0, 'recall@5': 0, 'recall@10': 0, 'ndcg@10': 0, mrr: 0 });
    expect(report.systems[1].filtered?.['recall@1']).toBeCloseTo(1 - task.description.repeatedTargets / 30, 12);
  });

  test('compares with the best baseline on the same users; the best baseline itself has no comparison', async () => {
    const report = await evaluate({ task, systems: [popularity(), mix(), oracle, scoreless], seed: 1 });
    const [first, second, perfect, indifferent] = report.systems;
    const best = (first.filtered?.['recall@10'] as number) > (second.filtered?.['recall@10'] as number) ? first : second;
    expect(best.vs).toBeNull();
    expect(perfect.vs).toMatchObject({ baseline: best.name, users: 30 });
    expect(perfect.vs?.delta).toBeCloseTo(
      (perfect.filtered?.['recall@10'] as number) - (best.filtered?.['recall@10'] as number),
      12,
    );
    expect(perfect.vs?.pHolm).toBeGreaterThanOrEqual(perfect.vs?.p as number);
    expect(indifferent.vs?.baseline).toBe(best.name);
  });

  test('slow systems rank a seeded sample; the others are reported on that sample too', async () => {
    const options = { task, systems: [popularity(), mix(), oracle], sample: { users: 8, systems: ['oracle'] } };
    const report = await evaluate({ ...options, seed: 3 });
    expect(report.systems.map(({ users, sampled, sample }) => [users, sampled, sample?.users])).toEqual([
      [30, false, 8],
      [30, false, 8],
      [8, true, 8],
    ]);
    expect(report.systems[2].vs?.users).toBe(8);
    expect(report.systems[2].filtered).toEqual(report.systems[2].sample?.filtered);
    const users = (seeded: { outcomes: readonly Outcome[] }): readonly number[] => seeded.outcomes[2].users;
    expect(users(await evaluate({ ...options, seed: 3 }))).toEqual(users(report));
    expect(users(await evaluate({ ...options, seed: 4 }))).not.toEqual(users(report));
  });

  test('a system that does not fit has null figures and a reason, and the others go on', async () => {
    const report = await evaluate({
      task,
      systems: [
        popularity(),
        { name: 'text-prompt-50', rank: () => ({ doesNotFit: 'the prompt has 700 tokens, the model reads 512' }) },
        { name: 'silent', rank: () => null },
      ],
      seed: 1,
    });
    const [, unfit, silent] = report.systems;
    expect(unfit.filtered).toEqual({ 'recall@1': null, 'recall@5': null, 'recall@10': null, 'ndcg@10': null, mrr: null });
    expect(unfit.doesNotFit).toBe('the prompt has 700 tokens, the model reads 512 (at test user 1 of 30)');
    expect(unfit).toMatchObject({ vs: null, latencyMs: { p50: null, p95: null }, tokensPerRequest: null });
    expect(silent.doesNotFit).toContain('does not fit');
    expect(report.systems[0].filtered?.['recall@10']).not.toBeNull();
  });

  test('several tasks at once; a system is asked what it can do and fitted once', async () => {
    const fit = jest.fn<NonNullable<System['fit']>>();
    const both: System = { name: 'both', fit, rank: oracle.rank, classify: ({ labels }) => ({ label: labels[1] }) };
    const genre = favouriteGenre(log, { genres: ['Comedy', 'Drama', 'Horror'] });
    const report = await evaluate({ task: [task, genre], systems: [mostFrequentGenre(), both], seed: 1 });
    expect(report.systems.map(({ name, task: name2 }) => `${name}: ${name2}`)).toEqual([
      'most-frequent-genre: favourite-genre',
      'both: next-item',
      'both: favourite-genre',
    ]);
    expect(fit).toHaveBeenCalledTimes(1);
    expect(report.systems[0].accuracy).toBeGreaterThan(0.8);
    expect(report.systems[2].accuracy).toBeCloseTo([...genre.truth].filter((label) => label === 1).length / 30, 12);
    expect(Object.keys(report.toJSON().protocols)).toEqual(['next-item', 'favourite-genre']);
  });

  test('outcomes survive an interruption: what is known is not asked again, and the figures are the same', async () => {
    const kept: Outcome[] = [];
    const whole = await evaluate({
      task,
      systems: [popularity(), oracle],
      seed: 1,
      onOutcome: (outcome) => kept.push(outcome),
    });
    const known = JSON.parse(JSON.stringify(kept)) as Outcome[];
    const rank = jest.fn(oracle.rank as NonNullable<System['rank']>);
    const resumed = await evaluate({ task, systems: [popularity(), { name: 'oracle', rank }], seed: 1, known });
    expect(rank).not.toHaveBeenCalled();
    expect(resumed.toJSON()).toEqual(whole.toJSON());
    const others = nextItem(leaveOneOut(smallLog({ seed: 2 })));
    await evaluate({ task: others, systems: [{ name: 'oracle', rank: scoreless.rank }, popularity()], seed: 1, known });
    await expect(evaluate({ task: others, systems: [mix()], seed: 1, known })).rejects.toThrow('made on other data');
  });

  test('a known outcome is of the kind that its system has now, and of a sample where the system is asked for one', async () => {
    const { outcomes: known } = await evaluate({ task, systems: [popularity(), oracle], seed: 1 });
    const systems: System[] = [popularity(), { ...oracle, kind: 'baseline' }];
    const report = await evaluate({ task, systems, seed: 1, known, sample: { users: 30, systems: ['oracle'] } });
    expect(report.systems.map(({ kind, sampled, vs }) => [kind, sampled, vs?.baseline])).toEqual([
      ['baseline', false, 'oracle'],
      ['baseline', true, undefined],
    ]);
  });

  test('what was answered before an interruption is not asked again, nor what a smaller sample asked', async () => {
    const genre = favouriteGenre(log, { genres: ['Comedy', 'Drama', 'Horror'] });
    const asked: string[] = [];
    const slow = (failing = Infinity): System => ({
      name: 'slow',
      rank: (request) => {
        if (asked.push(request.user) > failing) throw new Error('gone');
        return { ...(oracle.rank!(request) as RankResult), cost: { tokens: asked.length, flops: 10 } };
      },
      classify: ({ labels }) => ({ label: labels[1] }),
    });
    const whole = await evaluate({ task: [task, genre], systems: [slow()], seed: 1 });
    const users = [...asked];
    asked.length = 0;
    const parts: Outcome[] = [];
    const onPart = (outcome: Outcome) => void parts.push(JSON.parse(JSON.stringify(outcome)) as Outcome);
    await expect(evaluate({ task: [task, genre], systems: [slow(7)], seed: 1, onPart })).rejects.toThrow('gone');
    // A list is asked for twice, with and without what was met: the fourth user was not finished.
    expect(parts.map((part) => part.users.length)).toEqual([3]);
    asked.length = 6;
    const resumed = await evaluate({ task: [task, genre], systems: [slow()], seed: 1, onPart, known: parts });
    expect(asked.slice(6)).toEqual(users.slice(6));
    const figures = ({ systems }: typeof whole) => systems.map(({ latencyMs: _, ...rest }) => rest);
    expect(figures(resumed)).toEqual(figures(whole));
    expect(resumed.outcomes.map(({ latencyMs }) => latencyMs.length)).toEqual([30, 30]);

    const sampled = (count: number) => ({ users: count, systems: ['slow'] });
    const small = await evaluate({ task, systems: [slow()], seed: 1, sample: sampled(8) });
    asked.length = 0;
    const large = await evaluate({ task, systems: [slow()], seed: 1, sample: sampled(20), known: small.outcomes });
    expect(new Set(asked).size).toBe(12);
    expect(large.outcomes[0].users).toHaveLength(20);
  });

  test('systems of samples of different sizes are compared on the users of all', async () => {
    const slow = (name: string): System => ({ ...oracle, name });
    const sampled = (system: System, users: number, seed = 1): Parameters<typeof evaluate>[0] => ({
      task,
      systems: [popularity(), system],
      seed,
      sample: { users, systems: [system.name] },
    });
    const large = await evaluate(sampled(slow('large'), 20));
    const small = await evaluate(sampled(slow('small'), 8));
    const both = await evaluate({ ...sampled(slow('small'), 8), known: large.outcomes });
    const users = ({ systems }: typeof both) =>
      Object.fromEntries(systems.map((row) => [row.name, [row.users, row.sample?.users]]));
    const wanted = { popularity: [30, 8], large: [20, 8], small: [8, 8] };
    expect(users(both)).toEqual(wanted);
    expect(users(large.including(small.outcomes))).toEqual(wanted);
    expect(users(small.including(large.outcomes))).toEqual(wanted);
    expect(both.systems.find(({ name }) => name === 'large')!.sample).toEqual(
      both.systems.find(({ name }) => name === 'small')!.sample,
    );
    const [one, other] = [large.outcomes[1], small.outcomes[1]].map((outcome) => outcome.users.slice(0, 3));
    expect(one).not.toEqual(other);
    const apart = [...large.outcomes[1].users].filter((user) => !small.outcomes[1].users.includes(user)).slice(0, 3);
    const strange: Outcome = { ...large.outcomes[1], system: 'strange', users: apart };
    expect(() => small.including([strange])).toThrow(
      'sample: "small", "strange" were asked of samples of next-item that have no user in common; evaluate them with the same seed.',
    );
  });

  test('what an interruption left is not taken for the answers of a system that is not asked', async () => {
    const parts: Outcome[] = [];
    const onPart = (outcome: Outcome) => void parts.push(outcome);
    const failing: System = {
      name: 'slow',
      rank: (request) => {
        if (parts.length === 0 && request.userIndex > 2) throw new Error('gone');
        return oracle.rank!(request);
      },
    };
    await expect(evaluate({ task, systems: [failing], seed: 1, onPart })).rejects.toThrow('gone');
    expect(parts).toMatchObject([{ system: 'slow', users: [0, 1, 2], unfinished: true }]);
    await expect(evaluate({ task, systems: [popularity()], seed: 1, known: parts })).rejects.toThrow(
      'known: the outcome of "slow" was interrupted after 3 users; evaluate that system too, or leave its outcome out.',
    );
    const report = await evaluate({ task, systems: [popularity()], seed: 1 });
    expect(() => report.including(parts)).toThrow('outcomes: the outcome of "slow" was interrupted after 3 users');
    const resumed = await evaluate({ task, systems: [failing], seed: 1, known: parts });
    expect(resumed.outcomes).toMatchObject([{ system: 'slow', users: task.cases.map(({ user }) => user) }]);
    expect(resumed.outcomes[0]).not.toHaveProperty('unfinished');
  });

  test('an abort signal stops it with its own reason', async () => {
    const controller = new AbortController();
    const progress = jest.fn(({ done }: { done: number }) => {
      if (done === 5) controller.abort(new Error('enough'));
    });
    await expect(evaluate({ task, systems: [mix()], seed: 1, signal: controller.signal, onProgress: progress })).rejects.toThrow(
      'enough',
    );
    expect(progress.mock.calls.at(-1)?.[0]).toEqual({ system: 'mix', task: 'next-item', stage: 'ask', done: 5, total: 30 });
  });

  test('is the same for the same seed, up to latency', async () => {
    const figures = async (seed: number): Promise<unknown> =>
      (await evaluate({ task, systems: [popularity(), mix()], seed })).systems.map(
        ({ latencyMs: _, fitSeconds: __, ...rest }) => rest,
      );
    expect(await figures(5)).toEqual(await figures(5));
  });
});

describe('bad answers and bad options get one line that says what is wrong', () => {
  const answer = (rank: System['rank']) => evaluate({ task, systems: [{ name: 'x', rank }], seed: 1 });
  test.each<[string, System['rank'], string]>([
    ['too few scores', () => ({ scores: new Float32Array(3) }), 'System "x" returned 3 scores for 20 candidates'],
    [
      'a NaN',
      ({ candidates }) => ({ scores: new Float32Array(candidates.ids.length).fill(NaN) }),
      'returned a score that is not a number for user "u0"',
    ],
    [
      'a null, as JSON has it in place of a NaN',
      ({ candidates }) => ({ scores: candidates.ids.map((_, i) => (i === 7 ? null : i)) }) as never,
      'System "x" returned a score that is not a number: null for "i',
    ],
    [
      'a score that is not there',
      ({ candidates, history }) =>
        ({ scores: candidates.ids.map((_, i) => (i === log.items[history.to] ? undefined : i)) }) as never,
      'System "x" returned a score that is not a number: undefined for "i',
    ],
    [
      'an item that is no candidate',
      () => ({ items: [{ id: 'Casablanca', score: 1 }] }),
      'returned item "Casablanca", which is no candidate',
    ],
    ['items that are none', () => ({ items: [null as never] }), 'System "x" returned item "undefined", which is no candidate'],
  ])('%s', async (_, rank, message) => {
    await expect(answer(rank)).rejects.toThrow(message);
  });
  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['a number', 3],
    ['an empty object', {}],
    ['bare scores', new Float32Array(20)],
    ['a bare list', [{ id: '1', score: 1 }]],
    ['scores that are no list', { scores: 'high' }],
    ['items that are no list', { items: new Set(['1']) }],
  ])('%s in place of a ranking or a label', async (_, given) => {
    await expect(answer(() => given as never)).rejects.toThrow(
      'System "x" returned no ranking from rank(); return { scores }, one for each candidate, or { items: [{ id, score }] }, best first, or null.',
    );
    const classifier: System = { name: 'x', classify: () => given as never };
    const label = evaluate({ task: favouriteGenre(log), systems: [classifier], seed: 1 });
    await expect(label).rejects.toThrow('System "x" returned no label from classify(); return { label } or null.');
    await expect(label).rejects.toMatchObject({ kind: 'invalid-result', system: 'x' });
  });
  test('a list beside scores that are undefined is a list', async () => {
    const { systems } = await answer(() => ({ scores: undefined, items: [] }) as never);
    expect(systems[0]).toMatchObject({ filtered: { 'recall@10': 0 } });
  });
  test('of a part of a blend, which is named', async () => {
    const part: System = { name: 'short', rank: () => ({ scores: new Float32Array(3) }) };
    const blended = evaluate({ task, systems: [blend([mix(), part], [1, 1])], seed: 1 });
    await expect(blended).rejects.toMatchObject({ kind: 'invalid-result', system: 'short' });
  });
  test('a part of a blend whose scores are not all numbers', async () => {
    const part: System = { name: 'holes', rank: ({ candidates }) => ({ scores: candidates.ids.map(() => null) }) as never };
    const blended = evaluate({ task, systems: [blend([mix(), part], [1, 1])], seed: 1 });
    await expect(blended).rejects.toMatchObject({ kind: 'invalid-result', system: 'holes' });
  });
  test('scores in a plain array are scores', async () => {
    const { systems } = await answer(({ candidates }) => ({ scores: candidates.ids.map((_, i) => i) }) as never);
    const typed = await answer(({ candidates }) => ({ scores: Float64Array.from(candidates.ids, (_, i) => i) }));
    expect(systems[0].filtered).toEqual(typed.systems[0].filtered);
  });
  test('a list first, and scores for the second request', async () => {
    const rank: System['rank'] = ({ exclude, candidates }) =>
      exclude.size > 0 ? { items: [] } : { scores: new Float32Array(candidates.ids.length) };
    await expect(answer(rank)).rejects.toThrow('System "x" returned a list for one request and dense scores for the next');
  });
  test('a system that throws is named, its error kept', async () => {
    const cause = new Error('connection refused');
    const error: unknown = await answer(() => Promise.reject(cause)).catch((thrown: unknown) => thrown);
    expect(SystemFailedError.isInstance(error) && [error.message, error.stage, error.cause]).toEqual([
      'System "x" failed in rank: connection refused',
      'rank',
      cause,
    ]);
  });
  test.each<[string, Partial<Parameters<typeof evaluate>[0]>, string]>([
    ['two systems of one name', { systems: [mix(), mix()] }, 'systems: every system needs a name of its own, got "mix" twice.'],
    ['a system that can do nothing', { systems: [mostFrequentGenre()] }, '"most-frequent-genre" has neither rank()'],
    ['a depth that recall@10 does not fit in', { depth: 5 }, 'depth: must be an integer of 10 or more'],
    ['a seed that is none', { seed: NaN }, 'seed: must be an integer'],
    [
      'a sample for a system that is not there',
      { sample: { users: 5, systems: ['mix', 'user-lm'] } },
      'sample.systems: there is no system "user-lm"; there are mix.',
    ],
    ['a sample for nobody', { sample: { users: 5 } as never }, 'sample.systems: must be names of systems, or a function'],
  ])('%s', async (_, wrong, message) => {
    await expect(evaluate({ task, systems: [mix()], seed: 1, ...wrong })).rejects.toThrow(message);
  });
  test('favourite genre without genres', () => {
    expect(() => favouriteGenre({ ...log, categories: undefined })).toThrow('The items have no categories');
    expect(() => favouriteGenre(log, { genres: ['Comedy'] })).toThrow('the list lacks');
  });
});

test('favourite genre counts the whole log, the last event too', () => {
  const { truth: labels, labels: names, cases } = favouriteGenre(log);
  expect(names).toEqual(['Comedy', 'Drama', 'Horror']);
  cases.forEach(({ from, to }, i) => {
    const counts = names.map(
      (name) => [...log.items.subarray(from, to + 1)].filter((item) => log.categories?.[item].includes(name)).length,
    );
    expect(labels[i]).toBe(counts.indexOf(Math.max(...counts)));
  });
});
