import { expect, test } from '@jest/globals';
import { AnswerCache } from '../src/serving/answer-cache.js';

const config = { keyValueHeads: 2, headSize: 3 };
const name = 'past_key_values.0.key';

/** Elements of a head's first positions. */
const head = (cache: AnswerCache, which: number, positions: number) =>
  Array.from(
    cache.buffers
      .get(name)!
      .subarray(which * cache.capacity * 3)
      .subarray(0, positions * 3),
  );

test('begins with its prefix and takes along what was written when it grows', () => {
  const keysAndValues = new Map([[name, Float32Array.from({ length: 2 * 2 * 3 }, (_, i) => i + 1)]]);
  const prefix = { model: 'weights', ids: [7, 8], keysAndValues, bytes: 48, milliseconds: 0 };
  const cache = new AnswerCache([name], config, 5, prefix);
  const [first, second] = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]; // prettier-ignore
  expect([head(cache, 0, 2), head(cache, 1, 2)]).toEqual([first, second]);

  cache.buffers.get(name)!.set([40, 41, 42], (cache.capacity + 2) * 3);
  const before = cache.buffers.get(name);
  cache.reserve(cache.capacity, 3);
  expect(cache.buffers.get(name)).toBe(before);
  cache.reserve(cache.capacity + 1, 3);
  expect(cache.buffers.get(name)).not.toBe(before);
  expect([head(cache, 0, 3), head(cache, 1, 3)]).toEqual([
    [...first, 0, 0, 0],
    [...second, 40, 41, 42],
  ]);
  expect(cache.buffers.get(name)).toHaveLength(2 * cache.capacity * 3);
});
