import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { RankLog } from '../src/run/rank-log.js';

const folder = await mkdtemp(path.join(os.tmpdir(), 'ranks-'));
const file = path.join(folder, 'ranks.json');
afterAll(() => rm(folder, { recursive: true }));

const never = (): Promise<number> => Promise.reject(new Error('asked again'));

test('ranks that were found before an interruption are not found again, under the same key', async () => {
  const first = await RankLog.open(file, 'key');
  expect(await first.rank('a 1 50', () => Promise.resolve(3))).toBe(3);
  expect(await first.rank('a 2 50', () => Promise.resolve(null))).toBeNull();
  await expect(first.rank('a 3 50', never)).rejects.toThrow('asked again');
  await first.write();

  const second = await RankLog.open(file, 'key');
  expect(await second.rank('a 1 50', never)).toBe(3);
  expect(await second.rank('a 2 50', never)).toBeNull();
  expect(await second.rank('a 3 50', () => Promise.resolve(0))).toBe(0);

  await writeFile(file, '{ half');
  expect(await (await RankLog.open(file, 'key')).rank('a 1 50', () => Promise.resolve(5))).toBe(5);

  const other = await RankLog.open(file, 'another key');
  expect(await other.rank('a 1 50', () => Promise.resolve(9))).toBe(9);
});
