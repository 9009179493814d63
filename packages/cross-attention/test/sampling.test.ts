import { describe, expect, test } from '@jest/globals';
import { Random } from '@user-llm/onnx-autograd';
import { greedyToken, sampleToken } from '../src/serving/sampling.js';
import type { SamplingSettings } from '../src/serving/sampling.js';

const probabilities = [0.05, 0.4, 0.1, 0.25, 0.2];
const logits = Float32Array.from(probabilities, (p) => Math.log(p) + 3);

/** How often each token is drawn, of 20,000 draws. */
function frequencies(settings: Omit<SamplingSettings, 'seed'>): number[] {
  const random = Random.of(1, 'sampling');
  const counts = probabilities.map(() => 0);
  for (let i = 0; i < 20_000; i++) counts[sampleToken(logits, { seed: 1, ...settings }, random)]++;
  return counts.map((count) => count / 20_000);
}

const close = (actual: readonly number[], expected: readonly number[]) =>
  actual.forEach((value, i) => expect(Math.abs(value - expected[i])).toBeLessThan(0.015));

describe('a token is drawn', () => {
  test('with the probability that the model gives it', () => close(frequencies({}), probabilities));

  test('with a temperature, by the power of its probability', () => {
    const powers = probabilities.map((p) => p ** 2);
    const total = powers.reduce((a, b) => a + b);
    close(
      frequencies({ temperature: 0.5 }),
      powers.map((p) => p / total),
    );
  });

  test('among the k most probable ones', () => {
    const drawn = frequencies({ topK: 2 });
    expect(drawn.filter((share) => share > 0)).toHaveLength(2);
    close(drawn, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]);
  });

  test('among the fewest that have a share of the probability', () => {
    // .4 + .25 do not reach .7, and .2 more does.
    const drawn = frequencies({ topP: 0.7 });
    expect(drawn.map((share) => share > 0)).toEqual([false, true, false, true, true]);
    close(drawn, [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]);
    expect(frequencies({ topP: 0.1 })[1]).toBe(1);
  });

  test('among the fewest of the k most probable ones', () => {
    // Of the three, .4 + .25 are .76 of .85.
    expect(frequencies({ topK: 3, topP: 0.75 }).map((share) => share > 0)).toEqual([false, true, false, true, false]);
  });

  test('or taken, greedily: the first of equal ones', () => {
    expect(greedyToken(logits)).toBe(1);
    expect(greedyToken(Float32Array.of(1, 3, 3, 2))).toBe(1);
  });

  test.each([
    ['NaN', Float32Array.of(NaN, NaN, NaN)],
    ['an infinity', Float32Array.of(1, Infinity, 2)],
    ['nothing that is possible', Float32Array.of(-Infinity, -Infinity, -Infinity)],
  ])('or none is: of %s', (_, logits) => {
    expect(() => greedyToken(logits)).toThrow(RangeError);
    for (const settings of [{}, { topK: 1 }, { topP: 0.5 }])
      expect(() => sampleToken(logits, { seed: 1, ...settings }, Random.of(1, 'sampling'))).toThrow(RangeError);
  });
});
