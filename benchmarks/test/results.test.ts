import { expect, test } from '@jest/globals';
import { processorName } from '../src/record/results.js';

test.each([
  ['AMD EPYC', 'AVX2', 'amd-epyc-avx2'],
  ['Intel(R) Xeon(R) Processor', 'AVX-512', 'intel-xeon-avx512'],
  ['Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz', 'AVX2', 'intel-core-i7-8550u-avx2'],
  ['AMD Ryzen 9 7950X 16-Core Processor', undefined, 'amd-ryzen-9-7950x'],
  ['Apple M2 Pro', 'NEON', 'apple-m2-pro-neon'],
] as const)('speeds of %s with %s are kept in a file of their own', (cpu, vectors, name) => {
  expect(processorName(vectors === undefined ? { cpu } : { cpu, vectors })).toBe(name);
});
