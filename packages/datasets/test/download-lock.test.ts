import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { chmod, readFile, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';

import { lockFolder } from '../src/download-lock.js';
import { DownloadError } from '../src/index.js';
import { folderOf } from './helpers.js';

let folder: string;
let file: string;
let remove: () => Promise<void>;

beforeEach(async () => {
  ({ folder, remove } = await folderOf({}));
  file = path.join(folder, '.downloading');
});
afterEach(() => remove());

const lock = (): Promise<() => Promise<void>> => lockFolder(folder, 'http://localhost/ml-100k.zip');
const left = `999999999 ${hostname()}`;

test('of many that find a lock that was left behind, one gets the folder', async () => {
  for (let round = 0; round < 30; round++) {
    await writeFile(file, left);
    const asked = await Promise.allSettled(
      Array.from({ length: 6 }, async (_, turns) => {
        // One a little behind the other: what one has judged, another is about to replace.
        for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
        return lock();
      }),
    );
    const got = asked.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const refused = asked.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
    expect([got.length, refused.every((error) => DownloadError.isInstance(error))]).toEqual([1, true]);
    await got[0]();
    expect(existsSync(file)).toBe(false);
  }
});

test('what a process left that ended while it removed a lock keeps nobody out once it is old', async () => {
  await writeFile(file, left);
  await writeFile(`${file}.removing`, '');
  const before = new Date(Date.now() - 60_000);
  await utimes(`${file}.removing`, before, before);
  await (
    await lock()
  )();
  expect([existsSync(file), existsSync(`${file}.removing`)]).toEqual([false, false]);
});

test("giving the folder back leaves another call's lock", async () => {
  const unlock = await lock();
  await writeFile(file, '1 elsewhere');
  await unlock();
  expect(await readFile(file, 'utf8')).toBe('1 elsewhere');
});

test('a lock that this user may not read is held, not left behind', async () => {
  await chmod(folder, 0o755);
  await writeFile(file, left, { mode: 0o000 });
  const error = await asSomebody(() => lock().catch((thrown: unknown) => thrown));
  expect(DownloadError.isInstance(error) && error.message).toContain(
    `another user is fetching into the same folder. Wait for it to end and call this again; if nothing fetches there, remove ${file}.`,
  );
  expect(await readFile(file, 'utf8').catch(() => left)).toBe(left);
});

/** Whoever may read everything becomes somebody else meanwhile. */
async function asSomebody<T>(action: () => Promise<T>): Promise<T> {
  const root = process.getuid?.() === 0;
  try {
    if (root) process.seteuid!(65534);
    return await action();
  } finally {
    if (root) process.seteuid!(0);
  }
}
