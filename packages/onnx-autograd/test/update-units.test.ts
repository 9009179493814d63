import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { adamW, averaged, graph, normal, ones, readSafetensors, Trainer, zeros, type Optimizer } from '../src/index.js';
import { updateUnits } from '../src/update-units.js';

/** Two layers: a matrix too large to be joined, small ones, and what does not decay. */
const network = graph(({ input, parameter }) => {
  const x = input('x', ['rows', 300]);
  const hidden = x
    .linear(parameter('wide', [300, 120], normal(0.1)), parameter('wide.bias', [120], zeros()))
    .layerNorm(parameter('norm.weight', [120], ones()), parameter('norm.bias', [120], zeros()))
    .relu();
  const y = hidden.linear(parameter('small', [120, 7], normal(0.1)), parameter('small.bias', [7], zeros()));
  return {
    loss: y
      .sub(parameter('offset', [1, 7], normal(1)))
      .square()
      .mean(),
  };
});

const decaying = (): Optimizer => averaged(adamW({ learningRate: 0.01, weightDecay: 0.1 }), { decay: 0.9 });
const alone = ({ kindOf: _, ...optimizer }: Optimizer): Optimizer => optimizer;
const batch = (step: number, rows = 4) =>
  ({
    x: { dtype: 'float32', shape: [rows, 300], data: Float32Array.from({ length: rows * 300 }, (_, i) => Math.sin(i * step)) },
  }) as const;

describe('small parameters of one kind', () => {
  let folder: string;
  beforeAll(async () => (folder = await mkdtemp(path.join(os.tmpdir(), 'units-'))));
  afterAll(() => rm(folder, { recursive: true }));

  const trainer = (optimizer: Optimizer): Promise<Trainer<{ loss: never }>> =>
    Trainer.create(network, { minimize: 'loss', optimizer, seed: 3, clipNorm: 0.5, threads: 1 }) as never;

  test('are updated at once, matrices that decay apart from the rest', () => {
    const units = updateUnits(network.parameters, decaying());
    expect(units.map(({ members }) => members.map(({ name }) => name)).sort()).toEqual([
      ['small', 'offset'],
      ['wide'],
      ['wide.bias', 'norm.weight', 'norm.bias', 'small.bias'],
    ]);
    expect(units.map(({ shape }) => shape.join()).sort()).toEqual(['300,120', '367', '847']);
    expect(updateUnits(network.parameters, alone(decaying()))).toHaveLength(7);
  });

  test('become what they become each alone, over steps and accumulated steps', async () => {
    const [together, apart] = [await trainer(decaying()), await trainer(alone(decaying()))];
    for (let step = 1; step <= 6; step++) {
      const feeds = step % 3 === 0 ? [batch(step), batch(step + 10, 2)] : batch(step);
      const [a, b] = [await together.step(feeds), await apart.step(feeds)];
      expect(a.loss).toBeCloseTo(b.loss, 5);
      expect(a.metrics.gradientNorm).toBeCloseTo(b.metrics.gradientNorm, 4);
    }
    for (const slot of [undefined, 'mean', 'variance', 'average']) {
      const of = slot === undefined ? {} : { slot };
      const others = apart.weights(of);
      for (const [name, { data, shape }] of together.weights(of)) {
        expect(shape).toEqual(others.get(name)!.shape);
        (data as Float32Array).forEach((value, i) => expect(value).toBeCloseTo((others.get(name)!.data as Float32Array)[i], 5));
      }
    }
    await Promise.all([together.dispose(), apart.dispose()]);
  });

  test('are apart in checkpoints, which either reads of the other', async () => {
    const file = path.join(folder, 'run.safetensors');
    const [together, apart] = [await trainer(decaying()), await trainer(alone(decaying()))];
    for (let step = 1; step <= 3; step++) await together.step(batch(step));
    await together.saveCheckpoint(file);
    const { tensors } = await readSafetensors(file);
    expect(tensors.size).toBe(7 * 4);
    expect(tensors.get('variance/small')!.shape).toEqual([120, 7]);
    await apart.resume(file);
    expect((await apart.step(batch(4))).loss).toBeCloseTo((await together.step(batch(4))).loss, 6);
    await Promise.all([together.dispose(), apart.dispose()]);
  });
});
