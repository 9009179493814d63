import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import {
  adam,
  adamW,
  AutogradError,
  constantRate,
  DisposedError,
  graph,
  initialWeights,
  matrixFlops,
  NonFiniteLossError,
  normal,
  ones,
  Program,
  Random,
  readSafetensors,
  sgd,
  Trainer,
  warmupConstant,
  warmupCosine,
  weightedMean,
  zeros,
  type Feeds,
  type StepResult,
  type TrainerOptions,
} from '../src/index.js';
import { difference, f32, numbers, randomTensor } from './support.js';

const model = graph(({ input, parameter }) => {
  const x = input('x', ['batch', 3]);
  const hidden = x
    .linear(parameter('w1', [3, 8], normal(0.5)), parameter('b1', [8], zeros()))
    .tanh()
    .dropout(0.5);
  const prediction = hidden.linear(parameter('w2', [8, 1], normal(0.5)), parameter('b2', [1], zeros()));
  const error = prediction.sub(input('y', ['batch', 1])).square();
  return { prediction, loss: error.mean(), largest: error.max() };
});
const calm = graph(({ input, parameter }) => {
  const prediction = input('x', ['batch', 3]).linear(parameter('w', [3, 1], normal(0.5)), parameter('b', [1], zeros()));
  return {
    prediction,
    loss: prediction
      .sub(input('y', ['batch', 1]))
      .square()
      .mean(),
  };
});

function batch(step: number, size = 4): Feeds {
  const random = Random.of('batch', step);
  const x = randomTensor(random, [size, 3]);
  const [a, b] = [x.data as Float32Array, 0.25];
  return {
    x,
    y: f32(
      Float32Array.from({ length: size }, (_, i) => a[i * 3] - 0.5 * a[i * 3 + 1] + b),
      [size, 1],
    ),
  };
}

const create = (options: Partial<TrainerOptions<{ loss: never }>> = {}, definition = model): Promise<Trainer> =>
  Trainer.create(definition as typeof model, {
    minimize: 'loss',
    optimizer: adam({ learningRate: 0.05 }),
    seed: 7,
    threads: 1,
    ...(options as object),
  }) as unknown as Promise<Trainer>;

async function collect(steps: AsyncIterable<StepResult>): Promise<number[]> {
  const losses: number[] = [];
  for await (const { loss } of steps) losses.push(loss);
  return losses;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'trainer-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('training', () => {
  test('learns', async () => {
    const trainer = await create({}, calm as never);
    const losses = await collect(trainer.run((step) => batch(step), { steps: 200 }));
    expect(losses).toHaveLength(200);
    expect(losses.at(-1)).toBeLessThan(1e-3);
    expect(numbers(trainer.weights().get('w')!)[0]).toBeCloseTo(1, 1);
    await trainer.dispose();
  });

  test('takes batches from arrays, generators and functions, until they end', async () => {
    const trainer = await create();
    expect(await collect(trainer.run([batch(1), batch(2)]))).toHaveLength(2);
    let closed = false;
    async function* endless(): AsyncGenerator<Feeds> {
      try {
        for (let step = 1; ; step++) yield batch(step);
      } finally {
        closed = true;
      }
    }
    expect(await collect(trainer.run(endless(), { steps: 5 }))).toHaveLength(3);
    expect(closed).toBe(true);
    expect(await collect(trainer.run((step) => (step > 6 ? null : batch(step))))).toHaveLength(1);
    expect(trainer.steps).toBe(6);
    await trainer.dispose();
  });

  test('the gradients of several batches average to the gradient of one big batch', async () => {
    for (const clipNorm of [undefined, 0.05]) {
      const options = { optimizer: adamW({ learningRate: 0.1, weightDecay: 0.1 }), ...(clipNorm ? { clipNorm } : {}) };
      const [whole, parts] = [await create(options, calm as never), await create(options, calm as never)];
      for (let step = 1; step <= 3; step++) {
        const { x, y } = batch(step, 6);
        const piece = (from: number, to: number): Feeds => ({
          x: f32((x.data as Float32Array).slice(from * 3, to * 3), [to - from, 3]),
          y: f32((y.data as Float32Array).slice(from, to), [to - from, 1]),
        });
        const a = await whole.step({ x, y });
        const b = await parts.step([piece(0, 2), piece(2, 4), piece(4, 6)]);
        expect(b.loss).toBeCloseTo(a.loss, 5);
        if (clipNorm) expect(b.metrics.gradientNorm).toBeCloseTo(a.metrics.gradientNorm, 5);
      }
      for (const [name, weight] of whole.weights()) expect(difference(parts.weights().get(name)!, weight)).toBeLessThan(1e-5);
      await whole.dispose();
      await parts.dispose();
    }
  });

  test('only trainable parameters change, and frozen ones cost no weight gradient', async () => {
    const given = new Map([['w1', randomTensor(Random.of(1), [3, 8])]]);
    const trainer = await create({ weights: given, trainable: (name: string) => name.endsWith('2') });
    expect(trainer.trainable.map(({ name }) => name)).toEqual(['w2', 'b2']);
    const before = trainer.weights();
    await trainer.step(batch(1));
    const after = trainer.weights();
    for (const name of ['w1', 'b1']) expect(after.get(name)!.data).toEqual(before.get(name)!.data);
    for (const name of ['w2', 'b2']) expect(after.get(name)!.data).not.toEqual(before.get(name)!.data);
    expect(after.get('w1')!.data).toEqual(given.get('w1')!.data);
    expect([...trainer.weights({ trainableOnly: true }).keys()]).toEqual(['w2', 'b2']);
    const cost = (trainer: Trainer): number => trainer.flops(batch(1));
    const all = await create();
    // Forward is 2 * 4 * (3 * 8 + 8 * 1); each weight gradient as much as its forward product; w2's input gradient once more; the bias's
    // gradient is a product of ones with 4 rows of 8.
    expect(cost(trainer)).toBe(2 * 4 * (24 + 8 + 8));
    expect(cost(all)).toBe(2 * 4 * (24 + 8 + 8 + 8 + 24 + 8));
    await trainer.dispose();
    await all.dispose();
    await expect(create({ trainable: () => false })).rejects.toThrow('no parameter is trainable');
  });

  test('the first weights depend on the seed and their own name alone', async () => {
    const [a, b, other] = [await create(), await create(), await create({ seed: 8 })];
    expect(a.weights()).toEqual(b.weights());
    expect(a.weights().get('w1')!.data).not.toEqual(other.weights().get('w1')!.data);
    for (const trainer of [a, b, other]) await trainer.dispose();
  });

  test('reports metrics, the learning rate of the schedule and the norm of clipped gradients', async () => {
    const trainer = await create({
      metrics: ['largest'] as never,
      clipNorm: 1,
      schedule: warmupCosine({ steps: 10, warmup: 2 }),
      optimizer: sgd({ learningRate: 0.1 }),
    });
    const first = await trainer.step(batch(1));
    expect(first.step).toBe(1);
    expect(first.learningRate).toBeCloseTo(0.05);
    expect(first.metrics.largest).toBeGreaterThanOrEqual(first.loss);
    expect(first.metrics.gradientNorm).toBeGreaterThan(0);
    expect((await trainer.step(batch(2))).learningRate).toBeCloseTo(0.1);
    await trainer.dispose();
    await expect(create({ minimize: 'cost' as never })).rejects.toThrow(
      "the model has no output 'cost' to minimize; it has prediction, loss, largest",
    );
    await expect(create({ minimize: 'largest' as never, metrics: ['loss'] as never })).rejects.toThrow(
      "the metric 'loss' has the name that 'largest' is reported under; give that output another name",
    );
    await expect(create({ metrics: ['prediction'] as never })).rejects.toThrow(
      "the output 'prediction' is [batch, 1], and a loss or a metric is a scalar",
    );
  });

  test('schedules', () => {
    const cosine = warmupCosine({ steps: 100, warmup: 0.1, floor: 0.2 });
    expect([1, 10, 55, 100, 200].map(cosine).map((rate) => Number(rate.toFixed(6)))).toEqual([0.1, 1, 0.6, 0.2, 0.2]);
    expect([1, 4, 9].map(warmupConstant(4))).toEqual([0.25, 1, 1]);
    expect(constantRate()(5)).toBe(1);
  });

  test('weight decay leaves biases and norms alone unless told', async () => {
    const still = graph(({ parameter, input }) => ({
      loss: parameter('w', [2, 2], ones())
        .sum()
        .add(parameter('b', [2], ones()).sum())
        .mul(0)
        .add(input('zero', [])),
    }));
    const trainer = await Trainer.create(still, {
      minimize: 'loss',
      optimizer: adamW({ learningRate: 0.1, weightDecay: 0.5 }),
      seed: 1,
    });
    await trainer.step({ zero: f32([0], []) });
    expect(numbers(trainer.weights().get('w')!)[0]).toBeCloseTo(0.95);
    expect(numbers(trainer.weights().get('b')!)[0]).toBe(1);
    await trainer.dispose();
  });
});

describe('dropout', () => {
  test('is the same for the same seed, another for another, and off where the model is evaluated', async () => {
    const [a, b] = [await create(), await create()];
    const other = await create({ seed: 8, weights: a.weights() });
    const losses = await Promise.all([a, b, other].map(async (trainer) => (await trainer.step(batch(1))).loss));
    expect(losses[0]).toBe(losses[1]);
    expect(losses[0]).not.toBe(losses[2]);
    const once = await a.evaluate(batch(3));
    expect(await a.evaluate(batch(3))).toEqual(once);
    const program = await Program.create(model, { weights: a.weights() });
    expect(difference((await program.run(batch(3))).prediction, once.prediction as never)).toBeLessThan(1e-6);
    await program.dispose();
    for (const trainer of [a, b, other]) await trainer.dispose();
  });

  test('zeroes the share it should and keeps the mean', () => {
    const mask = new Float32Array(100_001);
    Random.of(1).fillDropout(mask, 0.3);
    const dropped = mask.filter((value) => value === 0).length / mask.length;
    expect(dropped).toBeCloseTo(0.3, 2);
    expect(mask.reduce((sum, value) => sum + value, 0) / mask.length).toBeCloseTo(1, 2);
  });

  test.each([0.001, 0.05, 0.5, 0.9])('drops numbers independently of each other at a rate of %d', (rate) => {
    const mask = new Float32Array(1_000_000);
    Random.of('mask', rate).fillDropout(mask, rate);
    const count = (holds: (value: number, i: number) => boolean): number => mask.filter(holds).length / mask.length;
    /** Four standard deviations of a share of a million. */
    const close = (share: number, expected: number): void =>
      expect(Math.abs(share - expected)).toBeLessThan(4 * Math.sqrt((expected * (1 - expected)) / mask.length));
    close(
      count((value) => value === 0),
      rate,
    );
    // Neighbours, and numbers further apart than a run that is drawn at once.
    for (const apart of [1, 2, 130])
      close(
        count((value, i) => value === 0 && mask[i - apart] === 0),
        rate ** 2,
      );
    const kept = 1 / (1 - rate);
    expect(mask.every((value) => value === 0 || Math.abs(value - kept) < 1e-3 * kept)).toBe(true);
  });

  test('fills the mask that it is given, however short, and nothing beside it', () => {
    const room = new Float32Array(12).fill(7);
    for (let length = 0; length <= 10; length++) {
      room.fill(7);
      Random.of('short', length).fillDropout(room.subarray(1, 1 + length), 0.5);
      expect([...room].map((value) => value !== 7)).toEqual([...room].map((_, i) => i >= 1 && i <= length));
    }
    Random.of(1).fillDropout(room, 0);
    expect([...room]).toEqual(Array(12).fill(1));
  });
});

describe('evaluating', () => {
  test('takes any batch size, and only the outputs asked for', async () => {
    const trainer = await create();
    for (const size of [1, 5]) {
      const { prediction } = await trainer.evaluate({ x: batch(1, size).x }, ['prediction']);
      expect(prediction.shape).toEqual([size, 1]);
    }
    await expect(trainer.evaluate({ x: batch(1).x })).rejects.toThrow("input 'y': is not fed");
    await trainer.dispose();
  });
});

describe('when something goes wrong', () => {
  test('a loss that is not finite leaves the weights as they were, and training can go on', async () => {
    const trainer = await create();
    await trainer.step(batch(1));
    const before = trainer.weights();
    const bad = batch(2);
    (bad.y.data as Float32Array)[0] = NaN;
    for (const feeds of [bad, [batch(2), bad]]) {
      const failing = trainer.step(feeds as Feeds);
      await expect(failing).rejects.toThrow(/^the loss is NaN at step 2; the weights are as they were before it/);
      await failing.catch((error: unknown) =>
        expect(NonFiniteLossError.isInstance(error) && [error.step, error.loss, error.quantity]).toEqual([2, NaN, 'loss']),
      );
    }
    expect(trainer.weights()).toEqual(before);
    expect((await trainer.step(batch(2))).step).toBe(2);
    await trainer.dispose();
  });

  // The square root is 0 at 0, and its slope is infinite.
  const steep = graph(({ input, parameter }) => ({
    loss: parameter('w', [1], ones())
      .mul(input('x', [1]))
      .sqrt()
      .sum(),
  }));

  test.each([
    [1, 'gradientNorm'],
    [undefined, 'sum of the weights'],
  ])(
    'a gradient that is not finite leaves the weights and the checkpoint as they were: clipNorm %s',
    async (clipNorm, quantity) => {
      const file = path.join(folder, `steep ${clipNorm}.safetensors`);
      const trainer = await Trainer.create(steep, {
        minimize: 'loss',
        optimizer: sgd({ learningRate: 0.1 }),
        clipNorm,
        seed: 1,
        threads: 1,
        checkpoint: { file, everySteps: 1 },
      });
      const [first, flat] = [f32([1]), f32([0])];
      await collect(trainer.run([{ x: first }]));
      const before = trainer.weights();
      await expect(collect(trainer.run([{ x: flat }]))).rejects.toThrow(
        new RegExp(`^the ${quantity} is NaN at step 2; the weights are`),
      );
      await expect(trainer.step([{ x: first }, { x: flat }])).rejects.toThrow(NonFiniteLossError);
      expect([trainer.steps, trainer.weights()]).toEqual([1, before]);
      expect((await readSafetensors(file)).tensors.get('w')).toEqual(before.get('w'));
      expect(Object.keys((await trainer.step({ x: first })).metrics)).toEqual(clipNorm === undefined ? [] : ['gradientNorm']);
      await trainer.dispose();
    },
  );

  test('a learning rate that is none is refused, and so is one that a schedule makes, and a norm that turns the gradient round', async () => {
    for (const learningRate of [NaN, Infinity, -0.1, undefined as never])
      for (const optimizer of [sgd, adamW])
        expect(() => optimizer({ learningRate })).toThrow(
          `the learning rate of an optimizer is ${learningRate}; give a finite number of 0 or more (1e-3, say)`,
        );
    const trainer = await create({ schedule: (step) => (step === 1 ? 1 : NaN) });
    await trainer.step(batch(1));
    await expect(trainer.step(batch(2))).rejects.toThrow(
      'the learning rate at step 2, where the schedule multiplies 0.05 by NaN, is NaN; give a finite number of 0 or more',
    );
    expect(trainer.steps).toBe(1);
    await trainer.dispose();
    for (const clipNorm of [-1, 0, NaN])
      await expect(create({ clipNorm })).rejects.toThrow(`a clipNorm of ${clipNorm} is not above 0`);
  });

  test('settings of an optimizer, and times of checkpoints, that are none are refused', async () => {
    const rest = { learningRate: 0.1 };
    for (const [setting, range] of [
      [{ beta1: 1 }, 'number from 0 up to, not including, 1'],
      [{ beta2: -0.1 }, 'number from 0 up to, not including, 1'],
      [{ epsilon: NaN }, 'finite number of 0 or more'],
      [{ weightDecay: -0.1 }, 'finite number of 0 or more'],
      [{ weightDecay: NaN }, 'finite number of 0 or more'],
    ] as const) {
      const [[name, value]] = Object.entries(setting);
      expect(() => adamW({ ...rest, ...setting })).toThrow(`${name} of an optimizer is ${value}; give a ${range}`);
    }
    expect(() => sgd({ ...rest, momentum: -0.9 })).toThrow('momentum of an optimizer is -0.9; give a finite number of 0 or more');
    const file = path.join(folder, 'never.safetensors');
    for (const everySteps of [0, 2.5, NaN])
      await expect(create({ checkpoint: { file, everySteps } })).rejects.toThrow(
        `checkpoints every ${everySteps} steps are none; give a whole number of at least 1, or leave it out`,
      );
    await expect(create({ checkpoint: { file, everySeconds: NaN } })).rejects.toThrow('checkpoints every NaN seconds are none');
  });

  test('a wrong feed is named, and the next step is the same as without it', async () => {
    const trainer = await create();
    await expect(trainer.step({ x: batch(1).x })).rejects.toThrow("input 'y': is not fed; it is float32 [batch, 1]");
    await expect(trainer.step({ ...batch(1), z: f32([1]) })).rejects.toThrow(
      "input 'z': is no input of the model; it takes x, y",
    );
    expect(trainer.steps).toBe(0);
    const untouched = await create();
    expect((await trainer.step(batch(1))).loss).toBe((await untouched.step(batch(1))).loss);
    await trainer.dispose();
    await untouched.dispose();
  });

  test('a step without a batch is refused, and the weights are as they were', async () => {
    const trainer = await create();
    const before = trainer.weights();
    const failing = trainer.step([]);
    await expect(failing).rejects.toThrow('a step has no batch; give one or more');
    await failing.catch((error: unknown) => expect(AutogradError.isInstance(error)).toBe(true));
    expect(trainer.weights()).toEqual(before);
    expect((await trainer.step(batch(1))).step).toBe(1);
    await trainer.dispose();
  });

  test('two steps at once are refused', async () => {
    const trainer = await create();
    const running = trainer.step(batch(1));
    await expect(trainer.step(batch(2))).rejects.toThrow('the trainer is in the middle of a step; await it before the next');
    expect((await running).step).toBe(1);
    await trainer.dispose();
  });

  test('dispose waits for what is under way, and releases every session', async () => {
    const opening = jest.spyOn(InferenceSession, 'create');
    const trainer = await create();
    const step = trainer.step(batch(1));
    const evaluations = [trainer.evaluate(batch(2)), trainer.evaluate(batch(2))];
    const saving = trainer.saveCheckpoint(path.join(folder, 'disposed.safetensors'));
    const disposals = [trainer.dispose(), trainer.dispose()];
    await expect(trainer.step(batch(2))).rejects.toThrow(DisposedError);
    await Promise.all(disposals);
    expect((await step).step).toBe(1);
    expect((await evaluations[0]).loss).toEqual((await evaluations[1]).loss);
    await saving;

    const sessions = await Promise.all(opening.mock.results.map(({ value }) => value as Promise<InferenceSession>));
    opening.mockRestore();
    expect(sessions).toHaveLength(2);
    // A session that was released refuses to be released again.
    for (const session of sessions) await expect(session.release()).rejects.toThrow();
  });

  test('a program that is disposed ends its runs first', async () => {
    const program = await Program.create(calm, { weights: initialWeights(calm.parameters, 1), threads: 1 });
    const running = program.run(batch(1));
    await Promise.all([program.dispose(), program.dispose()]);
    expect((await running).prediction.shape).toEqual([4, 1]);
    await expect(program.run(batch(1))).rejects.toThrow('this program was disposed; create a new one');
  });

  test('nothing works after dispose', async () => {
    const trainer = await create();
    await trainer.step(batch(1));
    await trainer.dispose();
    await trainer.dispose();
    for (const use of [
      () => trainer.step(batch(2)),
      () => trainer.evaluate(batch(2)),
      async () => trainer.weights(),
      () => trainer.saveCheckpoint(path.join(folder, 'x')),
      () => trainer.resume(path.join(folder, 'x')),
    ])
      await expect(use()).rejects.toThrow('this trainer was disposed; create a new one');
  });
});

test('weights come back from a file, and with an all-zero weight a mean is 0', async () => {
  const trainer = await create();
  await trainer.step(batch(1));
  const file = path.join(folder, 'weights.safetensors');
  await trainer.saveWeights(file, { note: 'first' });
  const { tensors, metadata } = await readSafetensors(file);
  expect(metadata).toMatchObject({ note: 'first' });
  const restored = await create({ weights: new Map(tensors) });
  expect(restored.weights()).toEqual(trainer.weights());
  await trainer.dispose();
  await restored.dispose();
  const mean = graph(({ input }) => ({ mean: weightedMean(input('values', ['n']), input('weights', ['n'])) }));
  const program = await Program.create(mean, { weights: new Map() });
  expect(numbers((await program.run({ values: f32([1, 2]), weights: f32([0, 0]) })).mean)).toEqual([0]);
  expect(numbers((await program.run({ values: f32([1, 2, 9]), weights: f32([1, 1, 0]) })).mean)).toEqual([1.5]);
  await program.dispose();
  expect(matrixFlops([mean.build({ training: false }).outputs.mean], { n: 2 })).toBe(0);
});
