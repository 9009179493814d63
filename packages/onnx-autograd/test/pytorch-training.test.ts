import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import {
  adam,
  adamW,
  attention,
  causalBias,
  graph,
  linearCrossEntropy,
  mergeHeads,
  readSafetensors,
  sgd,
  splitHeads,
  Trainer,
  values,
  weightedMean,
  type GraphDefinition,
  type HostTensor,
  type Optimizer,
  type Tensor,
} from '../src/index.js';
import { difference, f32, fixtures, haveFixtures, i32 } from './support.js';

(haveFixtures ? describe : describe.skip)('training equals PyTorch', () => {
  const open = async (name: string): Promise<ReadonlyMap<string, HostTensor>> =>
    (await readSafetensors(path.join(fixtures, name))).tensors;

  const optimizers: [string, { optimizer: Optimizer; clipNorm?: number; factor?: number }][] = [
    ['sgd-momentum', { optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }) }],
    ['adam', { optimizer: adam({ learningRate: 0.01, beta2: 0.98 }) }],
    ['adamw', { optimizer: adamW({ learningRate: 0.01, weightDecay: 0.1, decays: () => true }) }],
    ['clip', { optimizer: adamW({ learningRate: 0.01 }), clipNorm: 1, factor: 3 }],
  ];
  test.each(optimizers)('%s takes the same six steps', async (name, { optimizer, clipNorm, factor = 1 }) => {
    const tensors = await open('blocks.safetensors');
    const start = tensors.get('optimizer/start')!;
    // The gradient of sum(p g) is g.
    const definition = graph(({ input, parameter }) => ({
      loss: parameter('p', [12], values(start.data as Float32Array))
        .mul(input('g', [12]))
        .sum(),
    }));
    const trainer = await Trainer.create(definition, {
      minimize: 'loss',
      optimizer,
      seed: 1,
      threads: 1,
      ...(clipNorm ? { clipNorm } : {}),
    });
    for (let step = 0; step < 6; step++) {
      const gradient = tensors.get(`optimizer/gradient/${step}`)!.data as Float32Array;
      const { metrics } = await trainer.step({ g: f32(gradient.map((value) => value * factor)) });
      expect(difference(trainer.weights().get('p')!, tensors.get(`optimizer/${name}/${step}`)!)).toBeLessThan(1e-6);
      if (clipNorm) expect(metrics.gradientNorm).toBeCloseTo(Number(tensors.get('optimizer/clip/norms')!.data[step]), 4);
    }
    await trainer.dispose();
  });

  const [T, D] = [20, 32];
  /** A pre-norm causal transformer with a tied table; the description is in the reference's JSON. */
  const sasrec = (start: (name: string) => HostTensor): GraphDefinition =>
    graph(({ builder, input, parameter }) => {
      const weight = (name: string): Tensor => parameter(name, start(name).shape, values(start(name).data as Float32Array));
      let x = weight('item')
        .gather(input('ids', ['batch', T], 'int32'))
        .add(weight('pos')); // [B, T, D]
      const bias = causalBias(builder, T);
      for (const layer of [0, 1]) {
        const own = (name: string): Tensor => weight(`${layer}.${name}`);
        const h = x.layerNorm(own('g1'), own('b1'));
        const [q, k, v] = ['wq', 'wk', 'wv'].map((name) => splitHeads(h.matmul(own(name)), 2)); // [B, H, T, D / H]
        x = x.add(mergeHeads(attention(q, k, v, { bias })).matmul(own('wo')));
        x = x.add(x.layerNorm(own('g2'), own('b2')).linear(own('w1'), own('c1')).gelu('tanh').linear(own('w2'), own('c2')));
      }
      const last = x.layerNorm(weight('final.g'), weight('final.b')).reshape(['batch*20', D]);
      const losses = linearCrossEntropy(last, weight('item'), input('labels', ['batch*20'], 'int32'));
      return { loss: weightedMean(losses, input('weights', ['batch*20'])) };
    });

  test('sixty steps of a next-item transformer', async () => {
    const tensors = await open('sasrec-training.safetensors');
    const { losses } = JSON.parse(readFileSync(path.join(fixtures, 'sasrec-training.json'), 'utf8')) as { losses: number[] };
    const trainer = await Trainer.create(
      sasrec((name) => tensors.get(`start.${name}`)!),
      { minimize: 'loss', optimizer: adam({ learningRate: 3e-3, beta2: 0.98 }), seed: 1, threads: 1 },
    );
    const sequences = tensors.get('sequences')!.data as BigInt64Array;
    for (let step = 0; step < 60; step++) {
      const cell = (index: number, shift: number): number =>
        Number(sequences[(step * 16 + Math.floor(index / T)) * (T + 1) + (index % T) + shift]);
      const { loss } = await trainer.step({
        ids: i32(
          Array.from({ length: 16 * T }, (_, i) => cell(i, 0)),
          [16, T],
        ),
        labels: i32(Array.from({ length: 16 * T }, (_, i) => cell(i, 1))),
        weights: f32(Array.from({ length: 16 * T }, (_, i) => (i % T < 3 ? 0 : 1))),
      });
      expect(Math.abs(loss - losses[step])).toBeLessThan(1e-4);
    }
    const weights = trainer.weights();
    const ends = [...tensors].filter(([key]) => key.startsWith('end.'));
    expect(ends.length).toBe(weights.size);
    for (const [key, expected] of ends)
      expect([key, difference(weights.get(key.slice(4))!, expected)]).toEqual([key, expect.closeTo(0, 3)]);
    await trainer.dispose();
  });
});
