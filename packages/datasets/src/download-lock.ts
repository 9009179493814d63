import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';

import { DownloadError } from './errors.js';

const lock = '.downloading';
const patienceMs = 10_000;

/**
 * Keeps a folder for one download at a time: two would write into the same files. What a process that is gone left is removed.
 *
 * @param url what is to be fetched, for the message
 * @returns gives the folder back
 * @throws DownloadError where another download has it
 */
export async function lockFolder(folder: string, url: string): Promise<() => Promise<void>> {
  const file = path.join(folder, lock);
  for (;;) {
    try {
      await writeFile(file, `${process.pid} ${hostname()}`, { flag: 'wx' });
      return () => rm(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = await holderOf(file);
    if (holder !== undefined) {
      const advice = `Wait for it to end and call this again; if nothing fetches there, remove ${file}.`;
      throw new DownloadError(url, `${holder} is fetching into the same folder`, advice);
    }
    await rm(file, { force: true });
  }
}

/** Who has the lock; undefined where it was left behind. */
async function holderOf(file: string): Promise<string | undefined> {
  const content = await readFile(file, 'utf8').catch(() => undefined);
  const found = await stat(file).catch(() => undefined);
  if (content === undefined || found === undefined) return undefined;
  // About to be written, or left so by a full disk.
  if (content === '') return Date.now() - found.mtimeMs < patienceMs ? 'another process' : undefined;
  const [pid, host = ''] = content.split(' ');
  if (host !== hostname()) return `process ${pid} on ${host}`;
  // This process may have got the number of the one that left it.
  if (Number(pid) === process.pid) return found.mtimeMs < Date.now() - process.uptime() * 1000 ? undefined : 'this process';
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined;
  }
  return `process ${pid}`;
}
