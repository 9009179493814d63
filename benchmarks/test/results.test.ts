import { expect, test } from '@jest/globals';
import { processorName } from '../src/record/results.js';

test.each([
  [{ cpu: 'AMD EPYC', generation: 'Zen 3', vectors: 'AVX2' }, 'amd-epyc-zen-3-avx2'],
  [{ cpu: 'AMD EPYC', generation: 'Zen 5', vectors: 'AVX-512' }, 'amd-epyc-zen-5-avx512'],
  [{ cpu: 'Intel(R) Xeon(R) Processor', vectors: 'AVX-512' }, 'intel-xeon-avx512'],
  [{ cpu: 'Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz', vectors: 'AVX2' }, 'intel-core-i7-8550u-avx2'],
  [{ cpu: 'AMD Ryzen 9 7950X 16-Core Processor' }, 'amd-ryzen-9-7950x'],
  [{ cpu: 'Apple M2 Pro', vectors: 'NEON' }, 'apple-m2-pro-neon'],
] as const)('speeds of %o are kept in a file of their own', (machine, name) => {
  expect(processorName(machine)).toBe(name);
});
