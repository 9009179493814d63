import { expect, test } from '@jest/globals';
import { graph } from '../src/index.js';
import { SessionPool } from '../src/session-pool.js';

const { outputs } = graph(({ input }) => ({ y: input('x', ['batch']).add(1) })).build({ training: false });

test('opens one session for all that ask for the same at once', async () => {
  const pool = new SessionPool({ threads: 1 });
  const [first, second] = await Promise.all([pool.get('add', outputs, null), pool.get('add', outputs, null)]);
  expect(second).toBe(first);
  expect(await pool.get('add', outputs, { batch: 2 })).not.toBe(first);
  await pool.release();
});

test('a session that could not be opened is tried again when it is next asked for', async () => {
  const options = { threads: 1, executionProviders: ['nothing of that name'] };
  const pool = new SessionPool(options);
  await expect(pool.get('add', outputs, null)).rejects.toThrow();
  options.executionProviders = ['cpu'];
  expect((await pool.get('add', outputs, null)).inputs).toEqual(['x']);
  await pool.release();
});
