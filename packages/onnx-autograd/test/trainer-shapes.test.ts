import { expect, test } from '@jest/globals';
import { adamW, graph, linearCrossEntropy, normal, ones, Random, Trainer, weightedMean } from '../src/index.js';
import type { Feeds, Tensor } from '../src/index.js';
import { difference, f32, i32, randomTensor } from './support.js';

const model = graph(({ input, parameter }) => {
  const x = input('x', ['batch', 'steps', 3]);
  const y = x
    .matmul(parameter('a', [3, 4], normal(0.5)))
    .dropout(0.2)
    .tanh()
    .mean(1);
  return {
    loss: y
      .sub(input('y', ['batch', 4]))
      .square()
      .mean(),
  };
});

const batch = (rows: number, steps: number): Feeds => ({
  x: { dtype: 'float32', data: Float32Array.from({ length: rows * steps * 3 }, (_, i) => Math.sin(i)), shape: [rows, steps, 3] },
  y: { dtype: 'float32', data: Float32Array.from({ length: rows * 4 }, (_, i) => Math.cos(i)), shape: [rows, 4] },
});

test('one graph for all sizes takes the same steps as a graph for each', async () => {
  const losses: number[][] = [];
  for (const shapes of ['fixed', 'dynamic'] as const) {
    const trainer = await Trainer.create(model, { minimize: 'loss', optimizer: adamW({ learningRate: 0.1 }), seed: 1, shapes });
    const seen: number[] = [];
    for (const [rows, steps] of [
      [2, 5],
      [3, 1],
      [7, 4],
      [2, 5],
      [1, 2],
    ])
      seen.push((await trainer.step(batch(rows, steps))).loss);
    // Accumulated, too.
    seen.push((await trainer.step([batch(2, 3), batch(4, 2)])).loss);
    await trainer.dispose();
    losses.push(seen);
  }
  losses[0].forEach((loss, i) => expect(losses[1][i]).toBeCloseTo(loss, 5));
});

test('frozen weights packed into the sessions train as fed ones do', async () => {
  const layers = graph(({ input, parameter }) => {
    const frozen = (name: string, shape: number[]): Tensor => parameter(`base.${name}`, shape, normal(0.3));
    const table = frozen('table', [9, 4]);
    const x = table.gather(input('ids', ['n'], 'int32')).rmsNorm(parameter('base.norm', [4], ones()));
    const hidden = x
      .matmul(frozen('up', [4, 8]))
      .silu()
      .mul(x.matmul(parameter('learned', [4, 8], normal(0.3))));
    const last = hidden.matmul(frozen('down', [4, 8]), { transposeB: true });
    return { last, loss: weightedMean(linearCrossEntropy(last, table, input('next', ['n'], 'int32')), input('weights', ['n'])) };
  });
  const feeds = (step: number, size = 6): Feeds => {
    const random = Random.of(step);
    const ids = (): number[] => Array.from({ length: size }, () => random.integer(9));
    return { ids: i32(ids()), next: i32(ids()), weights: f32(ids().map((id) => id + 1)) };
  };
  const create = (frozenWeights: 'fed' | 'packed', shapes: 'fixed' | 'dynamic'): Promise<Trainer> =>
    Trainer.create(layers, {
      minimize: 'loss',
      optimizer: adamW({ learningRate: 0.1 }),
      seed: 1,
      weights: new Map([['base.norm', randomTensor(Random.of('norm'), [4])]]),
      trainable: (name) => name === 'learned',
      frozenWeights,
      shapes,
    }) as unknown as Promise<Trainer>;
  for (const shapes of ['fixed', 'dynamic'] as const) {
    const [fed, packed] = [await create('fed', shapes), await create('packed', shapes)];
    for (let step = 1; step <= 4; step++) {
      const batches = step === 4 ? [feeds(4), feeds(5, 3)] : feeds(step);
      expect((await packed.step(batches)).loss).toBeCloseTo((await fed.step(batches)).loss, 5);
    }
    expect(packed.flops(feeds(1))).toBe(fed.flops(feeds(1)));
    for (const [name, weight] of fed.weights()) expect(difference(packed.weights().get(name)!, weight)).toBeLessThan(1e-5);
    expect(difference((await packed.evaluate(feeds(9))).last, (await fed.evaluate(feeds(9))).last)).toBeLessThan(1e-5);
    await fed.dispose();
    await packed.dispose();
  }
});
