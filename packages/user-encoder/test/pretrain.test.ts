import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { copyFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { dropLast, takeUsers, type CategoricalColumn, type CategoriesColumn } from '@user-llm/event-tokenizer';
import { afterAll, describe, expect, jest, test } from '@jest/globals';
import {
  EncoderOptionError,
  gbce,
  nextEvent,
  PretrainCheckpointError,
  TrainingDataError,
  UserEncoder,
  type PretrainProgress,
} from '../src/index.js';
import { cinema, cinemaRows, collect, largestDifference, small } from './support.js';

// Hundreds of training steps, on machines that may be busy.
jest.setTimeout(60_000);

const { tokenizer, events } = await cinema({ users: 24 });
const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
const folder = await mkdtemp(path.join(tmpdir(), 'pretrain-'));
afterAll(() => rm(folder, { recursive: true }));

const settings = { batch: 8, learningRate: 5e-3, threads: 1 } as const;

describe('pretraining', () => {
  test('learns what comes next', async () => {
    const given = { ...settings, steps: 150, validation: 'none', itemVectors: 'as-they-are' } as const;
    const trained = await encoder.pretrain(events, given).result;
    // Eight films, each as frequent as the others: without the history the loss is ln 8 = 2.08, with it 0.
    const { training } = trained;
    expect(training!.losses[0].loss).toBeGreaterThan(2);
    expect(training!.losses.at(-1)!.loss).toBeLessThan(0.8);
    const scores = await trained.scoreHistory(events, 'user-0');
    const last = 3 * 19;
    expect(tokenizer.vocabulary('film')[scores.indexOf(Math.max(...scores))]).toBe(`film-${(last + 3) % 8}`);
    expect(trained.hash).not.toBe(encoder.hash);
    expect(encoder.training).toBeNull();
    // The resampler waits for the language model.
    expect(trained.weights.get('resampler.latents')).toEqual(encoder.weights.get('resampler.latents'));
    await trained.dispose();
  });

  test('keeps the weights of the best validation and records how it went', async () => {
    const run = encoder.pretrain(events, { ...settings, steps: 40, validateEvery: 10 });
    const seen = await collect(run);
    const trained = await run.result;
    const steps = seen.filter((progress) => progress.kind === 'step');
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(Object.keys(steps[0].losses)).toEqual(['film', 'time', 'genres', 'rating']);
    expect(steps[0]).toMatchObject({ steps: 40, secondsLeft: null });
    expect(steps[20].secondsLeft).toBeGreaterThan(0);
    expect(steps[20].eventsPerSecond).toBeGreaterThan(0);
    const { training } = trained;
    // Everybody with two events or more is validated.
    expect(training!.validation.map(({ step, users }) => [step, users])).toEqual([10, 20, 30, 40].map((step) => [step, 19]));
    expect(training!.stopped).toBe('steps');
    const bestNdcg = Math.max(...training!.validation.map(({ ndcgAt10 }) => ndcgAt10));
    expect(training!.best!.ndcgAt10).toBe(bestNdcg);
    expect(training!.best!.loss).toBeLessThan(2);
    expect(
      seen
        .filter((progress) => progress.kind === 'validation')
        .filter(({ best }) => best)
        .at(-1)!.step,
    ).toBe(training!.best!.step);
    expect(seen.at(-1)).toMatchObject({ kind: 'end', step: 40, stopped: 'steps' });
    expect(typeof training!.stillImproving).toBe('boolean');
  });

  test('one seed, one result, watched or not', async () => {
    const reported: PretrainProgress[] = [];
    const [a, b] = [
      encoder.pretrain(events, { ...settings, steps: 6 }),
      encoder.pretrain(events, { ...settings, steps: 6, onProgress: (progress) => reported.push(progress) }),
    ];
    for await (const progress of a) if (progress.kind === 'step' && progress.step === 2) break; // leaving does not stop it
    const hash = (await a.result).hash;
    expect((await b.result).hash).toBe(hash);
    expect(reported.at(-1)!.kind).toBe('end');
    const other = UserEncoder.create(tokenizer, { ...small, seed: 8 });
    expect((await other.pretrain(events, { ...settings, steps: 6 }).result).hash).not.toBe(hash);
  });

  test('fields with weight 0 have no head, and an encoder of items alone trains too', async () => {
    const run = encoder.pretrain(events, {
      ...settings,
      steps: 1,
      objective: nextEvent({ weights: { rating: 0, genres: 2 }, others: 0 }),
    });
    const [first] = await collect(run);
    expect(first).toMatchObject({ losses: { film: expect.any(Number), genres: expect.any(Number) } });
    const { loss, losses } = first as Extract<PretrainProgress, { kind: 'step' }>;
    expect(Object.keys(losses)).toEqual(['film', 'genres']);
    expect(loss).toBeCloseTo((losses.film + 2 * losses.genres) / 3, 5);
    const plain = UserEncoder.create(tokenizer, { ...small, fields: [] });
    const [only] = await collect(plain.pretrain(events, { ...settings, steps: 1 }));
    expect(Object.keys((only as Extract<PretrainProgress, { kind: 'step' }>).losses)).toEqual(['film']);
  });

  test('the heads stay with the encoder: a second run goes on where the first ended', async () => {
    const first = await encoder.pretrain(events, { ...settings, steps: 60, validation: 'none' }).result;
    expect(first.weights.has('heads.rating.weight')).toBe(true);
    const [progress] = await collect(first.pretrain(events, { ...settings, steps: 1, validation: 'none' }));
    expect((progress as Extract<PretrainProgress, { kind: 'step' }>).loss).toBeLessThan(first.training!.losses[0].loss - 0.5);
  });

  test('ends by patience, by time, or at the first of steps and epochs', async () => {
    const flat = await encoder.pretrain(events, { ...settings, learningRate: 1e-30, steps: 50, validateEvery: 1, patience: 3 })
      .result;
    expect(flat.training!.stopped).toBe('patience');
    expect(flat.training!.stillImproving).toBe(false);
    // The first of steps and epochs ends it, and says how long the schedule is.
    const stepsIn = async (options: { epochs: number; steps: number }): Promise<{ steps: number | null; rate: number }> => {
      const run = encoder.pretrain(events, { ...settings, ...options, schedule: { floor: 0 }, validation: 'none' });
      const last = (await collect(run)).filter((progress) => progress.kind === 'step').at(-1)!;
      expect(last.step).toBe(last.steps);
      return { steps: last.steps, rate: last.learningRate };
    };
    const { steps: epoch, rate } = await stepsIn({ epochs: 1, steps: 100 });
    expect(epoch).toBeLessThan(100);
    expect(rate).toBe(0);
    expect(await stepsIn({ epochs: 100, steps: 3 })).toEqual({ steps: 3, rate: 0 });
    const timed = await encoder.pretrain(events, { ...settings, seconds: 1e-6 }).result;
    expect(timed.training).toMatchObject({ stopped: 'seconds', steps: 0 });
  });
});

describe('abort and resume', () => {
  test('a run that was stopped goes on to the same numbers', async () => {
    const file = path.join(folder, 'run.safetensors');
    const options = { ...settings, steps: 16, validateEvery: 4 };
    const whole = await encoder.pretrain(events, options).result;

    const stop = new AbortController();
    const broken = encoder.pretrain(events, {
      ...options,
      checkpoint: { file },
      signal: stop.signal,
      onProgress: (progress) => {
        if (progress.kind === 'step' && progress.step === 9) stop.abort(new Error('power cut'));
      },
    });
    await expect(collect(broken)).rejects.toThrow('power cut');
    await expect(broken.result).rejects.toThrow('power cut');

    const resumed = encoder.pretrain(events, { ...options, checkpoint: { file } });
    const steps = (await collect(resumed)).flatMap((progress) => (progress.kind === 'step' ? [progress.step] : []));
    expect(steps[0]).toBe(10);
    const encoded = await resumed.result;
    expect(encoded.hash).toBe(whole.hash);
    expect(encoded.training!.losses).toEqual(whole.training!.losses);
    expect(encoded.training!.validation.map(({ step, loss, ndcgAt10 }) => [step, loss, ndcgAt10])).toEqual(
      whole.training!.validation.map(({ step, loss, ndcgAt10 }) => [step, loss, ndcgAt10]),
    );

    // A finished run is not done again.
    expect((await collect(encoder.pretrain(events, { ...options, checkpoint: { file } }))).map(({ kind }) => kind)).toEqual([
      'end',
    ]);

    // Other events (later ones, or with what is in their bags moved), another learning rate or another encoder are another run.
    const later = { ...events, times: events.times.map((time) => time + 1) };
    const bags = events.fields.genres as CategoriesColumn;
    const moved = { ...bags, offsets: bags.offsets.map((end, event) => (event === 1 ? 0 : end)) };
    for (const other of [
      encoder.pretrain(later, { ...options, checkpoint: { file } }),
      encoder.pretrain({ ...events, fields: { ...events.fields, genres: moved } }, { ...options, checkpoint: { file } }),
      encoder.pretrain(takeUsers(events, ['user-0', 'user-1']), { ...options, checkpoint: { file } }),
      encoder.pretrain(events, { ...options, learningRate: 1e-4, checkpoint: { file } }),
      whole.pretrain(events, { ...options, checkpoint: { file } }),
    ])
      await expect(other.result).rejects.toThrow(PretrainCheckpointError);
    await rm(`${file}.run`);
    await expect(encoder.pretrain(events, { ...options, checkpoint: { file } }).result).rejects.toThrow('its second file');
  });

  test('a run stopped in the middle of a validation makes up for it', async () => {
    const file = path.join(folder, 'validating.safetensors');
    const options = { ...settings, steps: 4, validateEvery: 2 };
    const whole = await encoder.pretrain(events, options).result;
    const stop = new AbortController();
    const broken = encoder.pretrain(events, {
      ...options,
      checkpoint: { file },
      signal: stop.signal,
      onProgress: (progress) => progress.kind === 'step' && progress.step === 2 && stop.abort(new Error('stop')),
    });
    await expect(broken.result).rejects.toThrow('stop');
    const resumed = await collect(encoder.pretrain(events, { ...options, checkpoint: { file } }));
    expect(resumed.map(({ kind, step }) => [kind, step])).toEqual([
      ['validation', 2],
      ['step', 3],
      ['step', 4],
      ['validation', 4],
      ['end', 4],
    ]);
    expect((await encoder.pretrain(events, { ...options, checkpoint: { file } }).result).hash).toBe(whole.hash);
  });

  test('checkpoints are written while it runs', async () => {
    const file = path.join(folder, 'often.safetensors');
    const run = encoder.pretrain(events, { ...settings, steps: 3, checkpoint: { file, everySteps: 1 } });
    for await (const progress of run)
      if (progress.kind === 'step' && progress.step === 3) expect((await stat(file)).size).toBeGreaterThan(1000);
    await run.result;
  });

  test('a place where nothing can be written is found before the first step, and a folder that is not there is made', async () => {
    const noFolder = path.join(folder, 'no-folder');
    await writeFile(noFolder, '');
    const file = path.join(noFolder, 'run.safetensors');
    const seen: PretrainProgress[] = [];
    const run = encoder.pretrain(events, {
      ...settings,
      steps: 2,
      checkpoint: { file },
      onProgress: (progress) => seen.push(progress),
    });
    const error = await run.result.catch((reason: unknown) => reason);
    expect(PretrainCheckpointError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ file, message: expect.stringContaining('name another file in checkpoint.file') });
    expect(seen).toEqual([]);

    const made = path.join(folder, 'a', 'b', 'run.safetensors');
    await encoder.pretrain(events, { ...settings, steps: 1, checkpoint: { file: made } }).result;
    expect((await stat(made)).size).toBeGreaterThan(1000);
  });

  test('what was trained is there when the last checkpoint cannot be written', async () => {
    const whole = await encoder.pretrain(events, { ...settings, steps: 3 }).result;
    const place = path.join(folder, 'taken-away');
    const file = path.join(place, 'run.safetensors');
    const run = encoder.pretrain(events, {
      ...settings,
      steps: 3,
      checkpoint: { file },
      onProgress: (progress) => progress.kind === 'step' && progress.step === 3 && rmSync(place, { recursive: true }),
    });
    const end = (await collect(run)).at(-1) as Extract<PretrainProgress, { kind: 'end' }>;
    expect(PretrainCheckpointError.isInstance(end.unsaved)).toBe(true);
    expect(end.unsaved).toMatchObject({ file });
    expect((await run.result).hash).toBe(whole.hash);
  });

  test('a checkpoint that cannot be written for a while does not end the run, and the next one is written', async () => {
    const whole = await encoder.pretrain(events, { ...settings, steps: 4 }).result;
    const place = path.join(folder, 'full-for-a-while');
    const file = path.join(place, 'run.safetensors');
    const unsaved: [step: number, file: unknown][] = [];
    const run = encoder.pretrain(events, {
      ...settings,
      steps: 4,
      checkpoint: { file, everySteps: 1 },
      onProgress: (progress) => {
        if (progress.kind !== 'step') return;
        if (progress.unsaved) unsaved.push([progress.step, progress.unsaved.file]);
        if (progress.step === 1) renameSync(place, `${place}-elsewhere`);
        if (progress.step === 3) mkdirSync(place);
      },
    });
    expect((await run.result).hash).toBe(whole.hash);
    // What step 1 left could not be written, which the progress of step 2 says; nor what step 2 left.
    expect(unsaved).toEqual([
      [2, file],
      [3, file],
    ]);
    expect((await stat(file)).size).toBeGreaterThan(1000);
  });

  test('a crash between the two files of a checkpoint mixes no weights of later steps in', async () => {
    const file = path.join(folder, 'torn.safetensors');
    const before = path.join(folder, 'torn-before.safetensors');
    // From random vectors, so that validation gets better all the time.
    const run = (steps: number) =>
      encoder.pretrain(events, { ...settings, steps, validateEvery: 2, itemVectors: 'as-they-are', checkpoint: { file } }).result;
    const early = await run(4);
    await copyFile(file, before);
    const late = await run(16);
    expect(early.training!.best!.step).toBe(4);
    expect(late.training!.best!.step).toBeGreaterThan(4);
    // The trainer's file is the one before, the second file knows of step 16.
    await copyFile(before, file);
    const again = await run(4);
    expect(again.training).toMatchObject({ steps: 4, best: { step: 4 } });
    expect(again.hash).toBe(early.hash);
    await run(16);
    await copyFile(before, file);
    expect((await run(16)).hash).toBe(late.hash);
  });

  test('a signal that has aborted starts nothing', async () => {
    const run = encoder.pretrain(events, { ...settings, signal: AbortSignal.abort(new Error('no')) });
    await expect(run.result).rejects.toThrow('no');
  });
});

test('what cannot be trained is said', async () => {
  const failing = async (options: object, from = events): Promise<unknown> =>
    encoder.pretrain(from, options).result.catch((error: unknown) => error);
  const lonely = await tokenizer.encode([{ user: 'a', film: 'film-1', at: 1 }]);
  const error = await failing({}, lonely);
  expect(TrainingDataError.isInstance(error)).toBe(true);
  expect(error).toMatchObject({
    users: 1,
    events: 1,
    message: '1 events of 1 users cannot train an encoder: no user has three events or more (the last is kept for validation)',
  });
  expect(await failing({ steps: 0 })).toMatchObject({ message: "option 'steps': 0 is not a positive whole number" });
  expect(await failing({ seconds: -1 })).toBeInstanceOf(EncoderOptionError);
  expect(await failing({ epoch: 3 })).toMatchObject({ message: expect.stringContaining('there is no such option') });
  expect(await failing({ steps: 1, objective: nextEvent({ weights: { colour: 1 } }) })).toMatchObject({
    message: expect.stringContaining('it reads film, time, genres'),
  });
  expect(await failing({ steps: 1, objective: nextEvent({ weights: { review: 1 } }) })).toMatchObject({
    message: expect.stringContaining('texts are read, not predicted'),
  });
  expect(await failing({ steps: 1, objective: nextEvent({ weights: { film: 0 }, others: 0 }) })).toMatchObject({
    message: expect.stringContaining('nothing to learn'),
  });
  expect(() => nextEvent({ others: -1 })).toThrow(EncoderOptionError);
  expect(await failing({ steps: 1, validation: 'off' })).toMatchObject({
    message: "option 'validation': 'off' is neither 'last' nor 'none'",
  });
  const file = path.join(folder, 'refused.ckpt');
  for (const [checkpoint, message] of [
    [file, `option 'checkpoint': '${file}' is no object; write { file: '${file}' }`],
    [{ file, every: 1 }, "option 'checkpoint.every': there is no such option; there are file, everySteps, everySeconds"],
    [{ file, everySteps: 0 }, "option 'checkpoint.everySteps': 0 is not a positive whole number"],
    [{ file, everySeconds: 0 }, "option 'checkpoint.everySeconds': 0 is not a number of seconds above 0"],
    [{ everySteps: 5 }, "option 'checkpoint.file': 'undefined' is no path of a file"],
  ] as const)
    expect(await failing({ steps: 1, checkpoint })).toMatchObject({ message });
  expect(await failing({ steps: 1, averaging: { decays: 0.9 } })).toMatchObject({
    message: "option 'averaging.decays': there is no such option; there are decay",
  });
  for (const [option, message] of [
    ['schedule', "'null' is neither 'constant' nor 'cosine' nor { warmup, hold, floor }"],
    ['averaging', "'null' is no object; there are the options decay"],
    ['augmentation', "'null' is no object; there are the options crop, drop, swap, corrupt, unknown"],
  ] as const)
    expect(await failing({ steps: 1, [option]: null })).toMatchObject({ option, message: `option '${option}': ${message}` });
});

test('the loss of a validation is the cross-entropy among the items', async () => {
  // Special ids are never right, and a loss that draws others does not teach the head so.
  const objective = nextEvent({ loss: gbce({ negatives: 4 }), repeats: 'allowed' });
  const trained = await encoder.pretrain(events, { ...settings, objective, steps: 30, validateEvery: 30 }).result;
  const history = dropLast(events, 1);
  const { ids } = events.fields.film as CategoricalColumn;
  let sum = 0;
  let users = 0;
  for (let user = 0; user < events.users.length; user++) {
    if (events.offsets[user + 1] - events.offsets[user] < 2) continue;
    const scores = await trained.scoreHistory(history, user);
    sum += Math.log(scores.reduce((all, score) => all + Math.exp(score), 0)) - scores[ids[events.offsets[user + 1] - 1]];
    users++;
  }
  expect(trained.training!.best).toMatchObject({ users });
  expect(trained.training!.best!.loss).toBeCloseTo(sum / users, 4);
  await trained.dispose();
});

test('validation does not leak: the held-out events change nothing in training', async () => {
  const rows = cinemaRows({ users: 24 });
  const lastOf = new Map(rows.map((row, i) => [row.user, i]));
  const other = await tokenizer.encode(
    rows.map((row, i) => (lastOf.get(row.user) === i && i < 200 ? { ...row, film: 'film-0' } : row)),
  );
  const run = async (from: typeof events): Promise<number[]> => {
    const seen = await collect(encoder.pretrain(from, { ...settings, steps: 5, validateEvery: 5 }));
    return seen.flatMap((progress) => (progress.kind === 'step' ? [progress.loss] : []));
  };
  expect(largestDifference(await run(other), await run(events))).toBe(0);
});
