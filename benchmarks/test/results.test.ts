import { expect, test } from '@jest/globals';
import { processorName } from '../src/record/results.js';

test.each([
  ['AMD EPYC', 'amd-epyc'],
  ['Intel(R) Xeon(R) Processor', 'intel-xeon'],
  ['Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz', 'intel-core-i7-8550u'],
  ['AMD Ryzen 9 7950X 16-Core Processor', 'amd-ryzen-9-7950x'],
  ['Apple M2 Pro', 'apple-m2-pro'],
])('speeds of %s are kept in a file of their own', (model, name) => {
  expect(processorName(model)).toBe(name);
});
