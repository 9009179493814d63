import { afterEach, expect, test } from '@jest/globals';
import { preferWholeScores } from '../src/serving/attention-kernel.js';

const name = 'ORT_GQA_DISABLE_FLASH_ATTENTION';
const before = process.env[name];
afterEach(() => {
  if (before === undefined) delete process.env[name];
  else process.env[name] = before;
});

test('the kernel that keeps scores whole is asked for where nobody has chosen', () => {
  delete process.env[name];
  preferWholeScores();
  expect(process.env[name]).toBe('1');
});

test('what somebody has chosen stays', () => {
  process.env[name] = '0';
  preferWholeScores();
  expect(process.env[name]).toBe('0');
});
