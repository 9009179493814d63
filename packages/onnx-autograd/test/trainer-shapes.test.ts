import { expect, test } from '@jest/globals';
import { adamW, graph, normal, Trainer } from '../src/index.js';
import type { Feeds } from '../src/index.js';

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
