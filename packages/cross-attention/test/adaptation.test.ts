import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Random } from '@user-llm/onnx-autograd';
import type { HostTensor, Weights } from '@user-llm/onnx-autograd';
import { adaptJointModel } from '../src/adaptation/adapt.js';
import type { AdaptOptions } from '../src/adaptation/adapt.js';
import { ShuffledBatches } from '../src/adaptation/examples.js';
import type { Choice } from '../src/adaptation/choices.js';
import { textRow, withPlaceholders } from '../src/adaptation/text-rows.js';
import type { AdaptationExample, ExampleSource } from '../src/adaptation/examples.js';
import type { JointModel, Strategy } from '../src/adaptation/joint-model.js';
import { mixTasks } from '../src/adaptation/task-mixture.js';
import { pretrainDecoder } from '../src/adaptation/pretrain.js';
import type { LogState } from '../src/adaptation/training-log.js';
import type { TrainingProgress } from '../src/adaptation/training-options.js';
import { createDecoder } from '../src/decoder/decoder.js';
import { AdaptationError, DoesNotFitError } from '../src/errors.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { initialIntegrationWeights } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const decoder = createDecoder(
  { vocabularySize: 24, width: 32, layers: 2, heads: 2, keyValueHeads: 1, intermediate: 32, context: 32, endTokens: [0] },
  1,
);
const encoder = ToyEncoder.create(2);
const shape = { userTokens: 2, userWidth: 8 };

function joint(integration: Integration): JointModel<ToyHistory> {
  const weights = initialIntegrationWeights(integration, decoder, shape, 3);
  return { decoder, user: { encoder, integration, shape, weights } };
}

/** What the user saw last is the answer; without the user it cannot be known. */
const examples: AdaptationExample<ToyHistory>[] = Array.from({ length: 36 }, (_, i) => ({
  history: [i % 6, Math.floor(i / 6)],
  promptIds: [20, 21],
  answerIds: [1 + Math.floor(i / 6), 0],
}));
const forBatches = { strategy: 'full', steps: 4, seed: 5, learningRate: 1e-2, threads: 1 } as const;
const options = { ...forBatches, batchSize: 12 };

const changed = (before: Weights, after: Weights) =>
  [...before]
    .filter(
      ([name, { data }]) =>
        !Buffer.from(data.buffer, data.byteOffset, data.byteLength).equals(
          Buffer.from(after.get(name)!.data.buffer, after.get(name)!.data.byteOffset, after.get(name)!.data.byteLength),
        ),
    )
    .map(([name]) => name);

async function watch<P>(run: AsyncIterable<P>): Promise<P[]> {
  const all: P[] = [];
  for await (const progress of run) all.push(progress);
  return all;
}

describe('answers that are distributions', () => {
  const model = joint(gatedCrossAttention({ every: 1, gate: 0.5 }));
  const validation = (list: AdaptationExample<ToyHistory>[]) => ({ examples: list, everySteps: 100 });
  const lossOf = async (list: AdaptationExample<ToyHistory>[]) => {
    const { record } = await adaptJointModel(model, examples, {
      ...options,
      steps: 1,
      learningRate: 1e-9,
      validation: validation(list),
    }).result;
    return record.validation.at(-1)!.loss;
  };
  const one = (token: number) => ({ ids: Int32Array.of(token), probabilities: Float32Array.of(1) });

  test('a certain one is the token itself', async () => {
    const certain = examples.map((example) => ({ ...example, answerDistributions: [one(example.answerIds[0]), undefined] }));
    expect(await lossOf(certain)).toBeCloseTo(await lossOf(examples), 5);
  });

  test('one over several tokens costs what they cost on average, with the weight of the place', async () => {
    const example: AdaptationExample<ToyHistory> = { history: [1, 2], promptIds: [20, 21], answerIds: [3, 0] };
    const [of3, of5] = [await lossOf([{ ...example, answerIds: [3] }]), await lossOf([{ ...example, answerIds: [5] }])];
    const both = { ids: Int32Array.of(3, 5), probabilities: Float32Array.of(0.25, 0.75) };
    const end = await lossOf([{ ...example, answerWeights: [0, 1] }]);
    expect(await lossOf([{ ...example, answerIds: [3], answerDistributions: [both] }])).toBeCloseTo(0.25 * of3 + 0.75 * of5, 5);
    const weighted = { ...example, answerWeights: [0.5, 1], answerDistributions: [both, undefined] };
    expect(await lossOf([weighted])).toBeCloseTo((0.5 * (0.25 * of3 + 0.75 * of5) + end) / 1.5, 5);
  });

  test('are learned, and refused where they are none', async () => {
    const half = examples.map((example) => ({
      ...example,
      answerIds: [example.answerIds[0]],
      answerDistributions: [{ ids: Int32Array.of(example.answerIds[0], 19), probabilities: Float32Array.of(0.5, 0.5) }],
    }));
    const { record } = await adaptJointModel(model, half, { ...options, steps: 60, validation: validation(half) }).result;
    // No model can be below the entropy of the distributions.
    expect(record.validation.at(-1)!.loss).toBeGreaterThan(Math.log(2) - 1e-4);
    expect(record.validation.at(-1)!.loss).toBeLessThan(Math.log(2) + 0.1);
    const row = (answerDistributions: AdaptationExample['answerDistributions']) => () =>
      textRow(
        { promptIds: [1], answerIds: [2], answerDistributions },
        { vocabularySize: 24, contextLength: 8, placeholders: { count: 0, firstId: 24 } },
        'example 7',
      );
    expect(row([])).toThrow('example 7: has 0 distributions for the 1 tokens');
    expect(row([{ ids: Int32Array.of(24), probabilities: Float32Array.of(1) }])).toThrow('id 24 is outside the vocabulary of 24');
    expect(row([{ ids: Int32Array.of(2), probabilities: Float32Array.of(0.5) }])).toThrow('sums to 0.5, not 1');
    expect(row([{ ids: Int32Array.of(2, 3), probabilities: Float32Array.of(1) }])).toThrow('2 ids and 1 probabilities');
  });
});

describe('each strategy trains its set, and nothing else by a bit', () => {
  const model = joint(gatedCrossAttention({ every: 1, gate: 0.5 }));
  const all = [...decoder.weights.keys()];
  test.each<[Strategy, string[], string[]]>([
    ['projection', [], ['resampler.weight']],
    ['encoder', [], ['events.weight', 'resampler.weight']],
    ['lora', all.filter((name) => /[qv]_proj/.test(name)), ['events.weight', 'resampler.weight']],
    ['full', all, ['events.weight', 'resampler.weight']],
  ])('%s', async (strategy, ofDecoder, ofEncoder) => {
    const result = await adaptJointModel(model, examples, { ...options, strategy }).result;
    expect(changed(decoder.weights, result.decoder.weights)).toEqual(ofDecoder);
    expect(changed(encoder.weights, result.encoder!).sort()).toEqual(ofEncoder);
    expect(changed(model.user!.weights, result.integration!)).toEqual([...model.user!.weights.keys()]);
    expect(result.record.steps).toBe(4);
    expect(result.record.examplesSeen).toBe(48);
  });
});

describe('learning', () => {
  test.each<[string, Integration]>([
    ['gated cross-attention', gatedCrossAttention({ every: 2, gate: 0.5 })],
    ['soft prompt', softPrompt()],
    ['both together', combined([softPrompt(), gatedCrossAttention({ every: 2, gate: 0.5 })])],
  ])('by %s the model answers from the user alone', async (_, integration) => {
    const run = adaptJointModel(joint(integration), examples, {
      ...options,
      steps: 120,
      validation: { examples, everySteps: 40 },
    });
    const progress = await watch(run);
    const { record } = await run.result;
    expect(progress.map(({ step }) => step)).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
    // One of six answers, two tokens each: guessing costs log(6) / 2 = 0.9.
    expect(progress[0].loss).toBeGreaterThan(2);
    expect(record.validation.map(({ step }) => step)).toEqual([40, 80, 120]);
    expect(Math.min(...record.validation.map(({ loss }) => loss))).toBeLessThan(0.2);
    expect(progress.at(-1)!.secondsLeft).toBe(0);
  });

  test('rows without a history read no user: only the answers that are the same for all are learned', async () => {
    const without = examples.map(({ promptIds, answerIds }) => ({ promptIds, answerIds }));
    const run = adaptJointModel(joint(gatedCrossAttention({ every: 1, gate: 0.5 })), [...examples, ...without], {
      ...options,
      steps: 100,
      batchSize: 24,
      validation: { examples: without },
    });
    const { record } = await run.result;
    expect(Math.min(...record.validation.map(({ loss }) => loss))).toBeGreaterThan(0.85);
  });

  describe('from a function', () => {
    const texts = examples.map(({ promptIds, answerIds }) => ({ promptIds, answerIds }));
    const run = (source: ExampleSource<ToyHistory>, more: Partial<AdaptOptions<ToyHistory>> = {}) =>
      adaptJointModel(joint(gatedCrossAttention({ every: 1 })), source, { ...forBatches, steps: 2, ...more }).result;

    test('may begin with texts alone: somebody of a later batch stands in, and is not read', async () => {
      const { record } = await run((step) => (step === 1 ? texts : examples));
      const known = await run((step) => (step === 1 ? texts : examples), { validation: { examples } });
      expect(record.curve.map(({ loss }) => loss)).toEqual(known.record.curve.map(({ loss }) => loss));
    });

    test('may be validated on texts alone', async () => {
      const { record } = await run(() => examples, { validation: { examples: texts } });
      expect(record.validation).toHaveLength(2);
    });

    test('needs a history somewhere', async () => {
      await expect(run((step) => (step <= 3 ? texts : null))).rejects.toThrow('none has a history');
    });
  });

  test('layers that are computed again take the same steps', async () => {
    const model = joint(gatedCrossAttention({ every: 1, gate: 0.5 }));
    for (const strategy of ['full', 'encoder', 'lora'] as const) {
      const run = { ...options, strategy };
      const losses = (progress: TrainingProgress[]) => progress.map(({ loss }) => loss);
      const kept = losses(await watch(adaptJointModel(model, examples, run)));
      const again = losses(await watch(adaptJointModel(model, examples, { ...run, recompute: true })));
      again.forEach((loss, i) => expect(loss).toBeCloseTo(kept[i], 5));
    }
  });

  test('packed frozen weights take the same steps, in one part or several', async () => {
    const model = joint(gatedCrossAttention({ every: 1, gate: 0.5 }));
    const losses = (progress: TrainingProgress[]) => progress.map(({ loss }) => loss);
    for (const strategy of ['projection', 'lora'] as const)
      for (const tokensPerPart of [8192, 8]) {
        const run = { ...options, strategy, tokensPerPart };
        const fed = losses(await watch(adaptJointModel(model, examples, run)));
        const packed = losses(await watch(adaptJointModel(model, examples, { ...run, frozenWeights: 'packed' })));
        packed.forEach((loss, i) => expect(loss).toBeCloseTo(fed[i], 5));
      }
  });

  test('texts of different lengths in one batch count as they do each alone', async () => {
    const model = joint(gatedCrossAttention({ every: 1, gate: 0.5 }));
    const long = examples.map((example, i) => ({ ...example, promptIds: Array.from({ length: 2 + (i % 9) }, () => 20) }));
    const [first] = await watch(adaptJointModel(model, () => long.slice(0, 12), { ...forBatches, steps: 1 }));
    let total = 0;
    for (const example of long.slice(0, 12))
      total += (await watch(adaptJointModel(model, () => [example], { ...forBatches, steps: 1 })))[0].loss;
    expect(first.loss).toBeCloseTo(total / 12, 4);
    // And so do their gradients: parts of one length each, added up, take the same steps as one padded batch.
    const padded = await watch(adaptJointModel(model, () => long.slice(0, 12), forBatches));
    const apart = await watch(adaptJointModel(model, () => long.slice(0, 12), { ...forBatches, tokensPerPart: 1 }));
    apart.forEach(({ loss }, i) => expect(loss).toBeCloseTo(padded[i].loss, 4));
  });

  test('a batch cut into parts takes the same steps', async () => {
    const whole = await watch(adaptJointModel(joint(softPrompt()), examples, options));
    const parts = await watch(adaptJointModel(joint(softPrompt()), examples, { ...options, tokensPerPart: 40 }));
    parts.forEach(({ loss }, i) => expect(loss).toBeCloseTo(whole[i].loss, 4));
  });

  test('a text-only model trains through the same code, and pretraining packs texts without padding', async () => {
    const text = examples.map(({ promptIds, answerIds }) => ({ promptIds, answerIds }));
    const { record } = await adaptJointModel({ decoder }, text, { ...options, strategy: 'lora' }).result;
    expect(record.curve[3].loss).toBeLessThan(record.curve[0].loss);
    const texts = Array.from({ length: 40 }, (_, i) => [5 + (i % 3), 9, 10, 11]);
    const run = pretrainDecoder(decoder, texts, {
      steps: 40,
      sequenceLength: 16,
      batchSize: 4,
      seed: 1,
      learningRate: 1e-2,
      holdOut: 5,
    });
    const progress = await watch(run);
    expect(progress.at(-1)!.loss).toBeLessThan(0.5);
    expect((await run.result).record.tokensSeen).toBeGreaterThan(40 * 3 * 16);
  });
});

describe('a run that was stopped', () => {
  let folder: string;
  beforeEach(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'adapt-'))));
  afterEach(async () => rm(folder, { recursive: true }));

  test('goes on to the same losses and weights', async () => {
    const validation = { examples, everySteps: 2 };
    const model = joint(gatedCrossAttention({ every: 1 }));
    const straight = adaptJointModel(model, examples, { ...options, steps: 9, validation });
    const losses = (await watch(straight)).map(({ loss }) => loss);

    const checkpoint = { file: path.join(folder, 'run.safetensors'), everySteps: 3 };
    const stop = new AbortController();
    const first = adaptJointModel(model, examples, { ...options, steps: 9, validation, checkpoint, signal: stop.signal });
    const seen: TrainingProgress[] = [];
    await expect(
      (async () => {
        for await (const progress of first) {
          seen.push(progress);
          if (progress.step === 5) stop.abort(new Error('enough'));
        }
      })(),
    ).rejects.toThrow('enough');
    await expect(first.result).rejects.toThrow('enough');

    const second = adaptJointModel(model, examples, { ...options, steps: 9, validation, checkpoint });
    seen.push(...(await watch(second)));
    expect(seen.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(seen.map(({ loss }) => loss)).toEqual(losses);
    const [a, b] = [await straight.result, await second.result];
    expect(b.decoder.weights).toEqual(a.decoder.weights);
    expect(b.encoder).toEqual(a.encoder);
    expect(b.record.validation.map(({ step, loss }) => [step, loss])).toEqual(
      a.record.validation.map(({ step, loss }) => [step, loss]),
    );
    expect(b.record.examplesSeen).toBe(a.record.examplesSeen);
  });

  test.each(['throws', 'ends'])('by a source that heeds the signal itself, and %s, keeps what it has trained', async (how) => {
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const stop = new AbortController();
    const { signal } = stop;
    const heeding = async (step: number) => {
      if (step === 3) stop.abort(new Error('enough'));
      if (signal.aborted && how === 'throws') throw new Error('the download was stopped');
      return signal.aborted ? null : examples.slice(0, 4);
    };
    const text = { decoder };
    const given = { ...forBatches, strategy: 'full', steps: 4, checkpoint } as const;
    await expect(adaptJointModel<never>(text, heeding as never, { ...given, signal }).result).rejects.toThrow('enough');
    const second = adaptJointModel<never>(text, () => examples.slice(0, 4) as never, given);
    expect((await watch(second)).map(({ step }) => step)).toEqual([3, 4]);
  });

  test('goes on where a checkpoint cannot be written, and says so', async () => {
    const model = joint(gatedCrossAttention({ every: 1 }));
    const whole = await adaptJointModel(model, examples, { ...options, steps: 4 }).result;
    const place = path.join(folder, 'full');
    const checkpoint = { file: path.join(place, 'run.safetensors'), everySteps: 1 };
    const run = adaptJointModel(model, examples, { ...options, steps: 4, checkpoint });
    const unsaved: number[] = [];
    for await (const progress of run) {
      if (progress.unsaved) unsaved.push(progress.step);
      if (progress.step === 1) await rename(place, `${place}-elsewhere`);
    }
    const { decoder, record } = await run.result;
    expect(unsaved).toEqual([2, 3, 4]);
    expect(record.unsaved).toContain('ENOENT');
    expect(decoder.weights).toEqual(whole.decoder.weights);
  });

  test('by a crash goes on from the last checkpoint, one of which is written as time goes by', async () => {
    const model = joint(gatedCrossAttention({ every: 1 }));
    const file = path.join(folder, 'run.safetensors');
    const crashing = async (steps: number, everySeconds: number): Promise<number[]> => {
      const checkpoint = { file, everySeconds };
      // A source that fails is what the end of the process is: nothing is written on the way out.
      const source = (step: number) => (step > steps ? Promise.reject(new Error('power is out')) : Promise.resolve(examples));
      const run = adaptJointModel(model, source, { ...forBatches, steps: 9, checkpoint });
      const seen: number[] = [];
      await expect(
        (async () => {
          for await (const { step } of run) seen.push(step);
        })(),
      ).rejects.toThrow('power is out');
      await expect(run.result).rejects.toThrow('power is out');
      return seen;
    };
    expect(await crashing(2, 3600)).toEqual([1, 2]);
    expect(await readdir(folder)).toEqual([]);
    expect(await crashing(1, 1e-6)).toEqual([1]);
    expect(await crashing(3, 3600)).toEqual([2, 3]);
    expect(await crashing(2, 1e-6)).toEqual([2]);
    expect(await crashing(4, 3600)).toEqual([3, 4]);
  });

  test('early stopping keeps the best weights', async () => {
    const wrong = examples.map((example) => ({ ...example, answerIds: [23, 0] }));
    const run = adaptJointModel(joint(softPrompt()), examples, {
      ...options,
      steps: 60,
      validation: { examples: wrong, everySteps: 5, patience: 2 },
    });
    const { record } = await run.result;
    expect(record.stoppedEarly).toBe(true);
    const best = record.validation.reduce((a, b) => (b.loss < a.loss ? b : a));
    expect(record.bestStep).toBe(best.step);
    expect(record.steps).toBe(best.step + 10);
  });

  test('by its patience stays so when it is called again, and goes on with more patience', async () => {
    const wrong = examples.map((example) => ({ ...example, answerIds: [23, 0] }));
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const run = (patience: number) =>
      adaptJointModel(joint(softPrompt()), examples, {
        ...options,
        steps: 30,
        validation: { examples: wrong, everySteps: 1, patience },
        checkpoint,
      }).result;
    const first = await run(2);
    const again = await run(2);
    expect(again.record).toMatchObject({ steps: first.record.steps, bestStep: first.record.bestStep, stoppedEarly: true });
    expect(again.decoder.weights).toEqual(first.decoder.weights);
    expect((await run(4)).record.steps).toBe(first.record.steps + 2);
  });

  test('by its seconds begins no step that it has no time for', async () => {
    const model = joint(softPrompt());
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    await adaptJointModel(model, examples, { ...options, steps: 2, checkpoint }).result;
    const log = JSON.parse(await readFile(`${checkpoint.file}.log`, 'utf8')) as LogState;
    const slow: LogState = { ...log, seconds: 999, stepSeconds: 2 };
    await writeFile(`${checkpoint.file}.log`, JSON.stringify(slow));
    const { record } = await adaptJointModel(model, examples, { ...options, steps: 9, seconds: 1000, checkpoint }).result;
    expect(record.steps).toBe(2);
  });

  test('may be kept in a folder that is not there yet', async () => {
    const file = path.join(folder, 'runs', 'first', 'run.safetensors');
    await adaptJointModel(joint(softPrompt()), examples, { ...options, steps: 1, checkpoint: { file } }).result;
    expect(existsSync(file)).toBe(true);
  });

  test('does not go on as another run', async () => {
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const model = joint(softPrompt());
    const given = { ...options, steps: 2, checkpoint };
    const first = await adaptJointModel(model, examples, given).result;
    const refusal = (reason: string) =>
      new AdaptationError(
        'checkpoint',
        `${checkpoint.file} is of another run: ${reason}; go on with the same, or name another file to start anew`,
      );
    await expect(adaptJointModel(model, examples, { ...given, learningRate: 1e-6 }).result).rejects.toThrow(
      refusal(`learningRate was ${options.learningRate} and is now 0.000001`),
    );
    await expect(adaptJointModel(model, examples, { ...given, warmup: 0.2 }).result).rejects.toThrow(
      refusal('warmup was 0.1 and is now 0.2'),
    );
    const weighted = examples.map((example) => ({ ...example, promptWeight: 1 }));
    await expect(adaptJointModel(model, weighted, given).result).rejects.toThrow(refusal('the examples are others'));
    await expect(adaptJointModel(model, examples.slice(1), given).result).rejects.toThrow(refusal('the examples are others'));
    const trained = { ...model, user: { ...model.user!, weights: first.integration! } };
    await expect(adaptJointModel(trained, examples, given).result).rejects.toThrow(
      refusal('the weights to start from are others'),
    );
    await expect(adaptJointModel(model, examples, { ...given, tokensPerPart: 40 }).result).rejects.toThrow(
      refusal('tokensPerPart was as fit and is now 40, by which an encoder draws other dropout masks'),
    );
    // A default that is written out is the same.
    const longer = await adaptJointModel(model, examples, { ...given, steps: 3, warmup: 0.1, recompute: true }).result;
    expect(longer.record.steps).toBe(3);
  });

  test('does not go on with another mixture of tasks', async () => {
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const [some, others] = [examples.slice(0, 20), examples.slice(20)];
    const run = (steps: number, source: ExampleSource<ToyHistory>) =>
      adaptJointModel(joint(softPrompt()), source, { ...forBatches, checkpoint, steps }).result;
    const mixed = () => mixTasks({ some: { examples: some }, others: { examples: others, weight: 2 } }, { batchSize: 8 });
    await run(2, mixed());
    for (const other of [
      mixTasks({ some: { examples: some }, others: { examples: others, weight: 3 } }, { batchSize: 8 }),
      mixTasks({ some: { examples: some }, others: { examples: others, weight: 2 } }, { batchSize: 6 }),
      mixTasks({ some: { examples: some }, others: { examples: others, weight: 2 } }, { batchSize: 8, seed: 2 }),
      mixTasks({ some: { examples: some }, others: { examples: others.slice(1), weight: 2 } }, { batchSize: 8 }),
      () => some,
    ])
      await expect(run(3, other)).rejects.toThrow('is of another run: the examples are others');
    expect((await run(3, mixed())).record.steps).toBe(3);
  });

  test('of a text-only model goes on in smaller parts, which change nothing', async () => {
    const texts = examples.map(({ promptIds, answerIds }) => ({ promptIds, answerIds }));
    const run = (steps: number, more: Partial<AdaptOptions<never>> = {}) =>
      adaptJointModel({ decoder }, texts, { ...options, steps, ...more });
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const straight = await watch(run(4));
    const stop = new AbortController();
    const first = run(4, { checkpoint, signal: stop.signal });
    first.result.catch(() => undefined);
    await expect(
      (async () => {
        for await (const { step } of first) if (step === 2) stop.abort(new Error('enough'));
      })(),
    ).rejects.toThrow('enough');
    const rest = await watch(run(4, { checkpoint, tokensPerPart: 20 }));
    expect(rest.map(({ step }) => step)).toEqual([3, 4]);
    rest.forEach(({ loss }, i) => expect(loss).toBeCloseTo(straight[2 + i].loss, 4));
  });

  test('keeps the best of what it has, also after a crash between its files', async () => {
    const file = path.join(folder, 'run.safetensors');
    const run = (steps: number) =>
      adaptJointModel(joint(softPrompt()), examples, {
        ...options,
        steps,
        warmup: 0,
        validation: { examples, everySteps: 1 },
        checkpoint: { file },
      }).result;
    await run(2);
    const [trainer, log] = [await readFile(file), await readFile(`${file}.log`)];
    expect((await run(6)).record.bestStep).toBeGreaterThan(2);
    await writeFile(file, trainer);
    await writeFile(`${file}.log`, log);
    const { record } = await run(3);
    expect(record.steps).toBe(3);
    // Of the first two steps the best weights are lost.
    expect(record.bestStep).toBe(3);
    expect(record.validation.map(({ step, early }) => [step, early])).toEqual([
      [1, true],
      [2, true],
      [3, undefined],
    ]);
  });

  test('goes on with rows of item tokens that were fitted for it', async () => {
    const checkpoint = { file: path.join(folder, 'run.safetensors') };
    const random = Random.of('rows');
    const rows = (): HostTensor => ({
      dtype: 'float32',
      shape: [3, decoder.config.hiddenSize],
      data: Float32Array.from({ length: 3 * decoder.config.hiddenSize }, () => random.next()),
    });
    const named = examples.map((example) => ({ ...example, items: [{ item: 1 }] }));
    const given = { ...options, steps: 2, checkpoint };
    const first = await adaptJointModel({ ...joint(softPrompt()), itemRows: rows() }, named, given).result;
    const again = await adaptJointModel({ ...joint(softPrompt()), itemRows: rows() }, named, given).result;
    expect(again.itemRows).toEqual(first.itemRows);
  });

  test('says what to remove where its log is damaged or missing', async () => {
    const file = path.join(folder, 'run.safetensors');
    const run = () => adaptJointModel(joint(softPrompt()), examples, { ...options, steps: 1, checkpoint: { file } }).result;
    await run();
    const refusal = new AdaptationError('checkpoint', `${file}.log is missing or damaged; remove ${file} to start anew`);
    for (const damaged of ['{"step":', 'null', '{}']) {
      await writeFile(`${file}.log`, damaged);
      await expect(run()).rejects.toThrow(refusal);
    }
    await rm(`${file}.log`);
    await expect(run()).rejects.toThrow(refusal);
    await rm(file);
    expect((await run()).record.steps).toBe(1);
  });

  test('a budget of seconds ends by itself', async () => {
    const { record } = await adaptJointModel(joint(softPrompt()), examples, { ...options, steps: undefined, seconds: 0.5 })
      .result;
    expect(record.steps).toBeGreaterThan(0);
  });
});

describe('rows and batches', () => {
  const model = { vocabularySize: 24, contextLength: 10, placeholders: { count: 0, firstId: 24 } };
  const inColumns = (choices: readonly Choice[]) =>
    (['position', 'target', 'weight'] as const).map((name) => choices.map((choice) => choice[name]));

  test('the loss is on the answer, and on the prompt where it has weight', () => {
    const row = textRow({ promptIds: [1, 2, 3], answerIds: [4, 0] }, model, 'example');
    expect([...row.input]).toEqual([1, 2, 3, 4]);
    expect(inColumns(row.tokens)).toEqual([
      [2, 3],
      [4, 0],
      [1, 1],
    ]);
    const weighted = textRow({ promptIds: [1, 2, 3], answerIds: [4, 0], promptWeight: 0.5 }, model, 'example');
    expect(inColumns(weighted.tokens)).toEqual([
      [0, 1, 2, 3],
      [2, 3, 4, 0],
      [0.5, 0.5, 1, 1],
    ]);
  });

  test('placeholders stand behind the begin token and carry no loss', () => {
    expect(withPlaceholders([7, 8], { count: 2, firstId: 24, beginToken: 7 })).toEqual([7, 24, 25, 8]);
    expect(withPlaceholders([8], { count: 2, firstId: 24, beginToken: 7 })).toEqual([24, 25, 8]);
    const row = textRow(
      { history: 0, promptIds: [1], answerIds: [2], promptWeight: 1 },
      { ...model, placeholders: { count: 2, firstId: 24 } },
      'example',
    );
    expect(inColumns(row.tokens)[1]).toEqual([1, 2]);
  });

  test('bad examples are named', () => {
    expect(() => textRow({ promptIds: [24], answerIds: [1] }, model, 'example 7')).toThrow(
      new AdaptationError('example 7', 'token id 24 is outside the vocabulary of 24'),
    );
    expect(() => textRow({ promptIds: [1], answerIds: [] }, model, 'example 7')).toThrow('answer is empty');
    for (const weight of [-1, NaN, Infinity])
      for (const weights of [{ promptWeight: weight }, { answerWeights: [1, weight] }])
        expect(() => textRow({ promptIds: [1, 2], answerIds: [3, 1], ...weights }, model, 'example 7')).toThrow(
          new AdaptationError('example 7', `has a token of the weight ${weight}; a weight is a number of at least 0`),
        );
    const long = () => textRow({ promptIds: [1, 2, 3, 4, 5, 6, 7, 8], answerIds: [1, 2, 3] }, model, 'example 7');
    expect(long).toThrow('example 7: 11 tokens do not fit');
    try {
      long();
    } catch (error) {
      expect(DoesNotFitError.isInstance(error)).toBe(true);
      expect(error).toMatchObject({ tokens: 11, context: 10 });
    }
  });

  test('what cannot be trained is refused with the reason', async () => {
    await expect(adaptJointModel({ decoder }, examples, { ...options, strategy: 'encoder' }).result).rejects.toThrow(
      'this model reads none',
    );
    await expect(
      adaptJointModel({ decoder }, () => examples, { ...forBatches, steps: undefined, epochs: 2 }).result,
    ).rejects.toThrow('a function has no epochs');
    await expect(adaptJointModel({ decoder }, [], options).result).rejects.toThrow('there are none');
    // As an encoder that has a trainable form, and is none.
    const { user } = joint(softPrompt());
    const untrainable = { manifest: encoder.manifest, weights: encoder.weights } as ToyEncoder;
    await expect(
      adaptJointModel({ decoder, user: { ...user!, encoder: untrainable } }, examples, options).result,
    ).rejects.toThrow('encoder: cannot be built into a graph; give its trainable form');
    const weightless = examples.map((example) => ({ ...example, answerWeights: [0, 0] }));
    await expect(adaptJointModel({ decoder }, weightless, options).result).rejects.toThrow('carries weight');
  });

  test.each<[Partial<Parameters<typeof adaptJointModel>[2]>, string]>([
    [{ seconds: 0 }, 'seconds: must be above 0, and is 0'],
    [{ learningRate: NaN }, 'learningRate: must be a number above 0, and is NaN'],
    [{ learningRate: -1 }, 'learningRate: must be a number above 0, and is -1'],
    [{ clipNorm: 0 }, 'clipNorm: must be above 0, and is 0'],
    [{ warmup: 2 }, 'warmup: must be from 0 to 1, and is 2'],
    [{ batchSize: 0 }, 'batchSize: must be a whole number of at least 1, and is 0'],
    [{ tokensPerPart: 0.5 }, 'tokensPerPart: must be a whole number of at least 1, and is 0.5'],
    [{ threads: 0 }, 'threads: must be a whole number of at least 1, and is 0'],
    [{ validation: { examples, everySteps: 0 } }, 'validation.everySteps: must be a whole number of at least 1, and is 0'],
    [{ validation: { examples, patience: 0 } }, 'validation.patience: must be a whole number of at least 1, and is 0'],
    [{ frozenWeights: 'pack' as never }, 'frozenWeights: must be fed or packed, and is pack'],
    [{ validation: { examples, by: 'rank' as never } }, 'validation.by: must be loss or ranking, and is rank'],
    [
      { validation: { examples, every: 1 } as never },
      'validation.every: is no setting; there are examples, by, keepFrom, everySteps, everySeconds, patience',
    ],
    [{ checkpoint: null as never }, 'checkpoint: must be { file, everySteps?, everySeconds? }, and is null'],
    [
      { checkpoint: 'run.safetensors' as never },
      'checkpoint: must be { file, everySteps?, everySeconds? }, and is "run.safetensors"',
    ],
    [
      { lr: 1 } as never,
      'lr: is no setting; there are strategy, lora, itemRate, tokensPerPart, recompute, steps, epochs, seconds, seed, batchSize, learningRate, encoderRate, warmup, weightDecay, clipNorm, threads, frozenWeights, signal, checkpoint, validation',
    ],
    [{ encoderRate: 0.1 }, 'encoderRate: is for an encoder, and this model reads no users; leave it out'],
    [{ lora: { rank: 2 } }, "lora: is for the strategy 'lora', and this one is 'full'; leave it out, or train by 'lora'"],
  ])('settings %j are refused', async (settings, message) => {
    await expect(adaptJointModel({ decoder }, examples, { ...options, ...settings }).result).rejects.toMatchObject({
      name: 'AdaptationError',
      message,
    });
  });

  const projections = 'q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj';
  test.each<[object, string]>([
    [{ r: 16 }, 'lora.r: is no setting; there are rank, alpha, targets'],
    [{ rank: 0 }, 'lora.rank: must be a whole number of at least 1, and is 0'],
    [{ alpha: 0 }, 'lora.alpha: must be a number above 0, and is 0'],
    [{ alpha: NaN }, 'lora.alpha: must be a number above 0, and is NaN'],
    [{ targets: [] }, `lora.targets: must be a list of projections, some of ${projections}`],
    [{ targets: 'q_proj' }, `lora.targets: must be a list of projections, some of ${projections}`],
    [{ targets: ['query'] }, `lora.targets: there is no projection 'query'; there are ${projections}`],
  ])('settings %j of LoRA are refused', async (lora, message) => {
    const run = adaptJointModel({ decoder }, examples, { ...options, strategy: 'lora', lora });
    await expect(run.result).rejects.toMatchObject({ name: 'AdaptationError', message });
  });

  test('what would change nothing is refused', async () => {
    await expect(adaptJointModel({ decoder }, () => examples, options).result).rejects.toThrow(
      'batchSize: is for a list of examples; a function makes its own batches, as mixTasks of its batchSize',
    );
    expect(() => pretrainDecoder(decoder, [[1, 2]], { steps: 1, strategy: 'lora' } as never)).toThrow(
      'strategy: is no setting; there are sequenceLength, holdOut',
    );
    expect(() => pretrainDecoder(decoder, [[1, 2]], { steps: 1, holdOut: 1 })).toThrow(
      'holdOut: must be a whole number of at least 2',
    );
    expect(() => gatedCrossAttention({ every: 2, layers: 3 } as never)).toThrow(
      'gatedCrossAttention.layers: is no setting; there are every, heads, gate',
    );
    expect(() => softPrompt({ tokens: 10 } as never)).toThrow('softPrompt.tokens: is no setting; there are none');
  });

  test('epochs are seeded, hold every example once, and any step can be asked for', () => {
    const items = Array.from({ length: 50 }, (_, i) => i);
    const batches = new ShuffledBatches(items, (i) => (i % 3) * 9 + 1, 8, 4);
    for (const epoch of [0, 1]) {
      const seen = Array.from({ length: batches.stepsPerEpoch }, (_, i) =>
        batches.at(epoch * batches.stepsPerEpoch + i + 1),
      ).flat();
      expect(seen.sort((a, b) => a - b)).toEqual(items);
    }
    const again = new ShuffledBatches(items, (i) => (i % 3) * 9 + 1, 8, 4);
    expect(again.at(11)).toEqual(batches.at(11));
    expect(again.at(1)).toEqual(batches.at(1));
  });
});
