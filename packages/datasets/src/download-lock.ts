import { randomUUID } from 'node:crypto';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

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
  const own = `${process.pid} ${hostname()} ${randomUUID()}`;
  while (!(await make(file, own))) {
    const found = await look(file);
    if (typeof found === 'object') {
      const advice = `Wait for it to end and call this again; if nothing fetches there, remove ${file}.`;
      throw new DownloadError(url, `${found.holder} is fetching into the same folder`, advice);
    }
    if (found === 'left') await removeLeft(file);
  }
  return async () => {
    // Somebody may have followed the advice, and another call have locked the folder since.
    const content = await readFile(file, 'utf8').catch(() => undefined);
    if (content === own) await rm(file, { force: true });
  };
}

/** False where the file is there already. */
async function make(file: string, content: string): Promise<boolean> {
  try {
    await writeFile(file, content, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/**
 * Removes a lock that was left behind. One call at a time does so, and looks again first: a second one that has judged the same lock
 * would otherwise remove the one that the first has made since.
 */
async function removeLeft(file: string): Promise<void> {
  const removing = `${file}.removing`;
  if (!(await make(removing, ''))) {
    // Empty, so that it is another process's while it is young, and left by one that ended in between once it is old.
    if ((await look(removing)) === 'left') await rm(removing, { force: true });
    else await sleep(10);
    return;
  }
  try {
    if ((await look(file)) === 'left') await rm(file, { force: true });
  } finally {
    await rm(removing, { force: true });
  }
}

/** Who has a lock; `left` where it was left behind, `gone` where there is none. */
async function look(file: string): Promise<{ holder: string } | 'left' | 'gone'> {
  let content: string;
  let modifiedMs: number;
  try {
    content = await readFile(file, 'utf8');
    modifiedMs = (await stat(file)).mtimeMs;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'gone';
    if (code === 'EACCES') return { holder: 'another user' };
    throw error;
  }
  // About to be written, or left so by a full disk.
  if (content === '') return Date.now() - modifiedMs < patienceMs ? { holder: 'another process' } : 'left';
  const [pid, host = ''] = content.split(' ');
  if (host !== hostname()) return { holder: `process ${pid} on ${host}` };
  // This process may have got the number of the one that left it.
  if (Number(pid) === process.pid) return modifiedMs < Date.now() - process.uptime() * 1000 ? 'left' : { holder: 'this process' };
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return 'left';
  }
  return { holder: `process ${pid}` };
}
