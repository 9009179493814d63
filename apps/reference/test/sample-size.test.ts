import { expect, test } from '@jest/globals';
import { sampleSize } from '../src/run/run-manifest.js';

const whole = { minutes: 20, llm: null, ranking: 'item-tokens' } as const;

test.each([
  ['as many as are asked for', { ...whole, users: 5 }, 5],
  ['few where the whole run is short', { ...whole, minutes: 4 }, 80],
  ['all of a small data set where one pass of a small model ranks for a user', whole, 1000],
  ['fewer where titles are searched', { ...whole, ranking: 'title' }, 200],
  ['fewer for a large model', { ...whole, llm: 'folder' }, 200],
] as const)('the language models rank for %s', (_, settings, users) => {
  expect(sampleSize(settings)).toBe(users);
});
