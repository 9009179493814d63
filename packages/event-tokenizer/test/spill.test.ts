import type { FileHandle } from 'node:fs/promises';
import { expect, test } from '@jest/globals';

import { sectionOf, writeAll } from '../src/spill.js';

/** A file that does all that it is asked to and notes how much and where: no memory is needed. */
function noting(): { file: FileHandle; asked: [length: number, place: number | null][] } {
  const asked: [number, number | null][] = [];
  const done = (_bytes: Uint8Array, _from: number, length: number, place: number | null) => {
    asked.push([length, place]);
    return Promise.resolve({ bytesRead: length, bytesWritten: length });
  };
  return { file: { read: done, write: done } as unknown as FileHandle, asked };
}

const large = { length: 2 ** 31 } as Uint8Array;

// Node takes 2 GiB in one call for an error, and a read of as much ends the process.
test.each([
  ['writing at a place', (file: FileHandle) => writeAll(file, large, 8), 8],
  ['reading', (file: FileHandle) => sectionOf(file, 3).read(large, 5), 8],
])('%s takes 2 GiB in pieces that follow one another', async (_, run, start) => {
  const { file, asked } = noting();
  await run(file);
  let end: number = start;
  for (const [length, place] of asked) {
    expect(length).toBeLessThan(2 ** 30);
    expect(place).toBe(end);
    end += length;
  }
  expect(end).toBe(start + 2 ** 31);
});

test('writing at the end takes 2 GiB in pieces, each at the end', async () => {
  const { file, asked } = noting();
  await writeAll(file, large);
  expect(asked.every(([length, place]) => length < 2 ** 30 && place === null)).toBe(true);
  expect(asked.reduce((sum, [length]) => sum + length, 0)).toBe(2 ** 31);
});
