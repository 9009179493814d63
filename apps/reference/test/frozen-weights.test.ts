import { expect, test } from '@jest/globals';
import { packsFrozenWeights } from '../src/stages/frozen-weights.js';

const gibibytes = 2 ** 30;
/** A model of so many weights, which nothing reads. */
const modelOf = (count: number) => ({
  weights: new Map([['all', { dtype: 'float32' as const, shape: [count / 10, 10], data: new Float32Array(0) }]]),
});

test('weights are packed in long runs of large models, where memory is plenty', () => {
  const large = modelOf(135e6);
  const long = { steps: 250, seconds: 60 };
  expect(packsFrozenWeights(large, long, 24 * gibibytes)).toBe(true);
  expect(packsFrozenWeights(large, { steps: undefined, seconds: 1200 }, 24 * gibibytes)).toBe(true);
  expect(packsFrozenWeights(large, { steps: 20, seconds: 1200 }, 24 * gibibytes)).toBe(false);
  expect(packsFrozenWeights(large, { steps: undefined, seconds: 60 }, 24 * gibibytes)).toBe(false);
  expect(packsFrozenWeights(large, long, 4 * gibibytes)).toBe(false);
  expect(packsFrozenWeights(modelOf(2e6), long, 24 * gibibytes)).toBe(false);
});
