import { expect, jest, test } from '@jest/globals';
import { UserEncoder, type PretrainOptions, type PretrainProgress } from '../src/index.js';
import { rateFactor } from '../src/learning-rate.js';
import { cinema, collect, largestDifference, small } from './support.js';

jest.setTimeout(60_000);

const { tokenizer, events } = await cinema({ users: 24 });
const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
const settings = { batch: 8, learningRate: 5e-3, threads: 1 } as const;

type Step = Extract<PretrainProgress, { kind: 'step' }>;
const steps = (seen: readonly PretrainProgress[]): Step[] =>
  seen.filter((progress): progress is Step => progress.kind === 'step');

test('the factor rises in a line and falls half a cosine to its floor', () => {
  const schedule = { warmup: 0.2, floor: 0.1 };
  expect([0, 0.1, 0.2].map((done) => rateFactor(schedule, done))).toEqual([0, 0.5, 1]);
  expect(rateFactor(schedule, 0.6)).toBeCloseTo(0.55, 12);
  expect(rateFactor(schedule, 1)).toBeCloseTo(0.1, 12);
  expect(rateFactor('cosine', 1)).toBeCloseTo(0.05, 12);
  expect(rateFactor({ warmup: 0 }, 0)).toBe(1);
  expect(rateFactor('constant', 0.9)).toBe(1);
});

test('the factor may stay at its height before it falls', () => {
  const schedule = { warmup: 0.2, hold: 0.4, floor: 0 };
  expect([0.1, 0.2, 0.4, 0.6].map((done) => rateFactor(schedule, done))).toEqual([0.5, 1, 1, 1]);
  expect(rateFactor(schedule, 0.8)).toBeCloseTo(0.5, 12);
  expect(rateFactor(schedule, 1)).toBeCloseTo(0, 12);
});

test('a run by steps or epochs ends at the floor', async () => {
  const rates = async (options: PretrainOptions): Promise<number[]> =>
    steps(await collect(encoder.pretrain(events, { ...settings, ...options }))).map(({ learningRate }) => learningRate / 5e-3);
  const bySteps = await rates({ steps: 10, schedule: { warmup: 0.2, floor: 0.1 } });
  expect(bySteps).toHaveLength(10);
  bySteps.forEach((rate, i) => expect(rate).toBeCloseTo(rateFactor({ warmup: 0.2, floor: 0.1 }, (i + 1) / 10), 12));
  const byEpochs = await rates({ epochs: 3, schedule: 'cosine' });
  expect(byEpochs.at(-1)).toBeCloseTo(0.05, 12);
  expect(await rates({ steps: 2 })).toEqual([1, 1]);
});

test('a run by time follows the clock', async () => {
  // A clock of its own: 10 ms go by whenever it is read.
  let now = 0;
  const clock = jest.spyOn(performance, 'now').mockImplementation(() => (now += 10));
  const run = encoder.pretrain(events, { ...settings, seconds: 1, schedule: 'cosine', validation: 'none' });
  const rates = steps(await collect(run)).map(({ learningRate }) => learningRate / 5e-3);
  clock.mockRestore();
  expect(rates.length).toBeGreaterThan(5);
  const top = rates.indexOf(Math.max(...rates));
  for (let i = 1; i < rates.length; i++) expect(Math.sign(rates[i] - rates[i - 1])).toBe(i <= top ? 1 : -1);
  expect(rates[top]).toBeGreaterThan(0.9);
  expect(rates.at(-1)).toBeLessThan(0.15);
});

test('the average of the weights is validated beside them, and the better of the two is kept', async () => {
  const options: PretrainOptions = {
    ...settings,
    // A rate too high: the weights jump about a good place, and their average lies nearer to it.
    learningRate: 0.03,
    steps: 80,
    validateEvery: 10,
    averaging: { decay: 0.9 },
  };
  const averaged = await encoder.pretrain(events, options).result;
  const plain = await encoder.pretrain(events, { ...options, averaging: false }).result;
  const points = averaged.training!.validation;
  expect(points.map(({ averaged: wins }) => typeof wins)).toEqual(points.map(() => 'boolean'));
  expect(plain.training!.validation[0].averaged).toBeUndefined();
  // The weights themselves are the same with and without an average; a point is the better of the two.
  points.forEach(({ ndcgAt10, averaged: wins }, i) => {
    const own = plain.training!.validation[i].ndcgAt10;
    if (wins) expect(ndcgAt10).toBeGreaterThanOrEqual(own);
    else expect(ndcgAt10).toBe(own);
  });
  expect(points.some(({ averaged: wins }) => wins)).toBe(true);
  expect(averaged.training!.losses).toEqual(plain.training!.losses);
});

test('without validation the average is the result', async () => {
  const options: PretrainOptions = { ...settings, steps: 20, validation: 'none' };
  const last = await encoder.pretrain(events, options).result;
  const slow = await encoder.pretrain(events, { ...options, averaging: true }).result;
  const fast = await encoder.pretrain(events, { ...options, averaging: { decay: 1e-9 } }).result;
  expect(slow.hash).not.toBe(last.hash);
  // An average that forgets at once is the weights.
  for (const [name, { data }] of last.weights)
    expect(largestDifference(fast.weights.get(name)!.data as Float32Array, data as Float32Array)).toBeLessThan(1e-6);
  const none = await encoder.pretrain(events, { ...settings, seconds: 1e-6, averaging: true, validation: 'none' }).result;
  expect(none.hash).toBe((await encoder.pretrain(events, { ...settings, seconds: 1e-6, validation: 'none' }).result).hash);
});

test('augmentation trains, differently, and what it cannot be is said', async () => {
  const run = async (options: PretrainOptions): Promise<Step[]> =>
    steps(await collect(encoder.pretrain(events, { ...settings, steps: 60, validation: 'none', ...options })));
  const noisy = await run({ augmentation: { crop: 0.2, drop: 0.1, swap: 0.05, corrupt: 0.1, unknown: 0.1 } });
  const clean = await run({});
  expect(noisy.at(-1)!.loss).toBeLessThan(noisy[0].loss - 0.5);
  expect(noisy.map(({ loss }) => loss)).not.toEqual(clean.map(({ loss }) => loss));
  const failing = async (options: object): Promise<string> =>
    encoder.pretrain(events, options).result.then(
      () => '',
      (error: Error) => error.message,
    );
  expect(await failing({ augmentation: { drop: 2 } })).toContain("option 'augmentation.drop': 2 is outside [0, 1)");
  expect(await failing({ schedule: 'linear' })).toContain("'linear' is neither");
  expect(await failing({ schedule: { warmup: 2 } })).toContain("option 'schedule.warmup'");
  expect(await failing({ schedule: { warm: 0.2 } })).toContain(
    "option 'schedule.warm': there is no such option; there are warmup",
  );
  expect(await failing({ schedule: { warmup: 0.5, hold: 0.5 } })).toContain('leave no time for the fall');
  expect(await failing({ averaging: { decay: 1 } })).toContain("option 'averaging.decay': 1 is outside (0, 1)");
});
