import { afterAll, expect, test } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  adam,
  averaged,
  averageSlot,
  AutogradError,
  graph,
  normal,
  Program,
  Random,
  Trainer,
  WeightError,
  zeros,
  type Feeds,
} from '../src/index.js';
import { difference, f32, numbers, randomTensor } from './support.js';

const folder = await mkdtemp(path.join(tmpdir(), 'averaging-'));
afterAll(() => rm(folder, { recursive: true }));

const model = graph(({ input, parameter }) => {
  const prediction = input('x', ['batch', 3]).linear(parameter('w', [3, 2], normal(0.5)), parameter('b', [2], zeros()));
  return { prediction, loss: prediction.sub(1).square().mean() };
});
const batch = (step: number): Feeds => ({ x: randomTensor(Random.of('averaging', step), [4, 3]) });
const options = {
  minimize: 'loss',
  optimizer: averaged(adam({ learningRate: 0.05 }), { decay: 0.5 }),
  seed: 1,
  threads: 1,
} as const;

test('the average follows its rule, starts at the first weights, and survives a resume', async () => {
  const trainer = await Trainer.create(model, options);
  expect(trainer.weights({ slot: averageSlot })).toEqual(trainer.weights());
  const file = path.join(folder, 'run.safetensors');
  let reference: number[] = [];
  for (let step = 1; step <= 20; step++) {
    await trainer.step(batch(step));
    const weights = numbers(trainer.weights().get('w')!);
    const kept = Math.min(0.5, (step - 1) / (step + 9));
    reference = weights.map((weight, i) => (step === 1 ? weight : kept * reference[i] + (1 - kept) * weight));
    expect(difference(trainer.weights({ slot: averageSlot }).get('w')!, f32(reference, [3, 2]))).toBeLessThan(1e-6);
    if (step === 7) await trainer.saveCheckpoint(file);
  }
  const again = await Trainer.create(model, options);
  await again.resume(file);
  for (let step = 8; step <= 20; step++) await again.step(batch(step));
  expect(again.weights({ slot: averageSlot })).toEqual(trainer.weights({ slot: averageSlot }));
  expect(again.weights()).toEqual(trainer.weights());
  await trainer.dispose();
  await again.dispose();
});

test('the weights themselves are those of the optimizer without an average', async () => {
  const plain = await Trainer.create(model, { ...options, optimizer: adam({ learningRate: 0.05 }) });
  const trainer = await Trainer.create(model, options);
  for (let step = 1; step <= 5; step++) {
    await plain.step(batch(step));
    await trainer.step(batch(step));
  }
  expect(trainer.weights()).toEqual(plain.weights());
  expect(() => plain.weights({ slot: averageSlot })).toThrow("the optimizer keeps no 'average'; it keeps mean, variance");
  await plain.dispose();
  await trainer.dispose();
});

test('a model can be evaluated with other weights than the trained ones', async () => {
  const trainer = await Trainer.create(model, options);
  for (let step = 1; step <= 5; step++) await trainer.step(batch(step));
  const average = trainer.weights({ slot: averageSlot });
  const found = await trainer.evaluate(batch(9), ['prediction'], { weights: average });
  const program = await Program.create(model, { weights: average, threads: 1 });
  expect(difference(found.prediction, (await program.run(batch(9))).prediction)).toBeLessThan(1e-6);
  // Those not given are the trainer's own.
  const own = await trainer.evaluate(batch(9), ['prediction']);
  expect(await trainer.evaluate(batch(9), ['prediction'], { weights: new Map() })).toEqual(own);
  const wrong = new Map([['w', average.get('b')!]]);
  await expect(trainer.evaluate(batch(9), ['prediction'], { weights: wrong })).rejects.toThrow(WeightError);
  await program.dispose();
  await trainer.dispose();
});

test('a decay that is none is refused', () => {
  expect(() => averaged(adam({ learningRate: 1 }), { decay: 1 })).toThrow(AutogradError);
});
