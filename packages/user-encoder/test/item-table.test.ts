import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { FIRST_VALUE_ID, type CategoricalColumn } from '@user-llm/event-tokenizer';
import { afterAll, describe, expect, jest, test } from '@jest/globals';
import {
  combine,
  contrastive,
  dualEncoder,
  EncoderOptionError,
  gbce,
  maskedEvents,
  nextEvent,
  sampledSoftmax,
  UserEncoder,
  type Objective,
  type PretrainOptions,
  type PretrainProgress,
} from '../src/index.js';
import { cinema, collect, largestDifference, small } from './support.js';

jest.setTimeout(120_000);

const folder = await mkdtemp(path.join(tmpdir(), 'item-table-'));
afterAll(() => rm(folder, { recursive: true }));

const { tokenizer, events } = await cinema({ users: 16, films: 60 });
const films = (events.fields.film as CategoricalColumn).ids;
const causal = UserEncoder.create(tokenizer, small, { threads: 1 });
const bidirectional = UserEncoder.create(tokenizer, { ...small, attention: 'bidirectional' }, { threads: 1 });
const settings = { batch: 4, learningRate: 5e-3, threads: 1 } as const;
const width = small.width;

const tableOf = (encoder: UserEncoder): Float32Array => encoder.weights.get('encoder.fields.film')!.data as Float32Array;
const steps = (seen: readonly PretrainProgress[]): number[] =>
  seen.flatMap((progress) => (progress.kind === 'step' ? [progress.loss] : []));

const cases: Record<string, [UserEncoder, Objective]> = {
  'sampled softmax': [causal, nextEvent({ loss: sampledSoftmax({ negatives: 6 }) })],
  'calibrated binary': [causal, nextEvent({ loss: gbce({ negatives: 6 }) })],
  'masked events': [bidirectional, maskedEvents({ loss: sampledSoftmax({ negatives: 6 }) })],
  'dual encoder': [causal, dualEncoder({ negatives: 16, unknown: 0.1 })],
  combined: [causal, combine([nextEvent({ loss: sampledSoftmax({ negatives: 6 }) }), 1], [contrastive(), 0.1])],
};

describe.each(Object.entries(cases))('an item table of rows: %s', (name, [encoder, objective]) => {
  const options: PretrainOptions = { ...settings, objective, steps: 1, validation: 'none' };

  test('the first step is that of the whole table, and rows that it does not name stay as they are', async () => {
    // Without dropout, whose masks hang on the inputs' names.
    const { attention } = encoder.config;
    const still = UserEncoder.create(tokenizer, { ...small, dropout: 0, ...(attention ? { attention } : {}) }, { threads: 1 });
    const [whole, rows] = await Promise.all(
      (['whole', 'rows'] as const).map(async (itemTable) => {
        const run = still.pretrain(events, { ...options, itemTable });
        return { losses: steps(await collect(run)), trained: await run.result };
      }),
    );
    expect(Math.abs(rows.losses[0] / whole.losses[0] - 1)).toBeLessThan(1e-6);
    // Adam's first step of a row without a gradient is none, so that all weights agree.
    for (const [weight, { data }] of whole.trained.weights)
      expect(largestDifference(rows.trained.weights.get(weight)!.data as Float32Array, data as Float32Array)).toBeLessThan(2e-5);
    const moved = Array.from({ length: 64 }, (_, id) =>
      largestDifference(
        tableOf(rows.trained).subarray(id * width, (id + 1) * width),
        tableOf(still).subarray(id * width, (id + 1) * width),
      ),
    );
    expect(moved.filter((distance) => distance > 0).length).toBeGreaterThan(4);
    expect(moved.filter((distance) => distance === 0).length).toBeGreaterThan(4);
  });

  test('learns, and goes on to the same numbers after a stop', async () => {
    const longer: PretrainOptions = {
      ...options,
      steps: 60,
      itemTable: 'rows',
      validation: 'last',
      validateEvery: 30,
      averaging: true,
    };
    const whole = encoder.pretrain(events, longer);
    const losses = steps(await collect(whole));
    const mean = (some: number[]): number => some.reduce((a, b) => a + b, 0) / some.length;
    expect(mean(losses.slice(-10))).toBeLessThan(0.9 * mean(losses.slice(0, 5)));
    const file = path.join(folder, `${name}.safetensors`);
    const stop = new AbortController();
    const broken = encoder.pretrain(events, {
      ...longer,
      checkpoint: { file },
      signal: stop.signal,
      onProgress: (progress) => progress.kind === 'step' && progress.step === 40 && stop.abort(new Error('power cut')),
    });
    await expect(broken.result).rejects.toThrow('power cut');
    const found = await encoder.pretrain(events, { ...longer, checkpoint: { file } }).result;
    expect(found.hash).toBe((await whole.result).hash);
    const scores = await found.scoreHistory(events, 0);
    expect(scores.subarray(FIRST_VALUE_ID).every(Number.isFinite)).toBe(true);
    await expect(encoder.pretrain(events, { ...longer, itemTable: 'whole', checkpoint: { file } }).result).rejects.toThrow(
      'other events, options',
    );
  });
});

test('the average of an item that no step named is the item', async () => {
  const objective = nextEvent({ loss: sampledSoftmax({ negatives: 2 }) });
  const trained = await causal.pretrain(events, {
    ...settings,
    objective,
    steps: 1,
    batch: 1,
    validation: 'none',
    averaging: true,
    itemTable: 'rows',
    itemVectors: 'as-they-are',
  }).result;
  const same = Array.from({ length: 60 }, (_, i) => i + FIRST_VALUE_ID).filter(
    (id) =>
      largestDifference(
        tableOf(trained).subarray(id * width, (id + 1) * width),
        tableOf(causal).subarray(id * width, (id + 1) * width),
      ) === 0,
  );
  expect(same.length).toBeGreaterThan(20);
  expect(same.length).toBeLessThan(60);
  expect(new Set(films).size).toBeGreaterThan(40);
});

test('the full softmax reads every row, and says so', async () => {
  const failed = await causal.pretrain(events, { ...settings, itemTable: 'rows' }).result.catch((error: unknown) => error);
  expect(EncoderOptionError.isInstance(failed)).toBe(true);
  expect((failed as Error).message).toContain('choose sampledSoftmax or gbce');
  await expect(causal.pretrain(events, { ...settings, itemTable: 'some' as never }).result).rejects.toThrow('is neither');
});
