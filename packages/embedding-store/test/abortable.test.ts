import { expect, test } from '@jest/globals';
import { abortable } from '../src/abortable.js';

test('an abort while a value is in use ends the loop, though the source would keep it waiting for ever, and closes the source', async () => {
  let asked = 0;
  let closed = false;
  const source: AsyncIterableIterator<string> = {
    [Symbol.asyncIterator]: () => source,
    next: () => (asked++ === 0 ? Promise.resolve({ done: false, value: 'a' }) : new Promise(() => undefined)),
    return: async () => {
      closed = true;
      return { done: true, value: undefined };
    },
  };
  const stop = new AbortController();
  const taken: string[] = [];
  const take = async (): Promise<void> => {
    for await (const value of abortable(source, stop.signal)) {
      taken.push(value);
      stop.abort(new Error('enough'));
    }
  };
  await expect(take()).rejects.toThrow('enough');
  expect([taken, asked, closed]).toEqual([['a'], 1, true]);
});
