import { describe, expect, test } from '@jest/globals';
import { bytes, duration } from '../src/format.js';

describe('numbers as the report writes them', () => {
  test.each([
    [4096, '4 kB'],
    [615_629, '616 kB'],
    [1_250_000, '1.3 MB'],
    [21_400_000, '21.4 MB'],
    [25_276_510_208, '25.3 GB'],
  ])('%d bytes are %s', (value, text) => expect(bytes(value)).toBe(text));

  test.each([
    [4.25, '4.3 s'],
    [359.7, '6 min 0 s'],
    [641.2, '10 min 41 s'],
    [5399.6, '1.5 h'],
  ])('%d seconds are %s', (value, text) => expect(duration(value)).toBe(text));
});
