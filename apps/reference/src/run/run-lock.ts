import { readFileSync, rmSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { UsageError } from '../errors.js';

const fileName = 'run.lock';

/** Who works in a run folder. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the kernel's ticks where they can be read: another process may have got its number. */
  readonly began: string | null;
}

/** Locks that this process holds. */
const held = new Set<string>();

/**
 * Claims a run folder for this process until `releaseRunFolder`, or until the process ends, however it ends. Claiming twice is once.
 * @throws UsageError while another process works there
 */
export async function claimRunFolder(folder: string): Promise<void> {
  const file = path.resolve(folder, fileName);
  if (held.has(file)) return;
  const own: Holder = { pid: process.pid, host: os.hostname(), began: beginningOf(process.pid) };
  const text = JSON.stringify(own);
  for (;;) {
    try {
      await writeFile(file, text, { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        // What a full disk left of it.
        if ((error as NodeJS.ErrnoException).code === 'ENOSPC') await rm(file, { force: true });
        throw error;
      }
    }
    const holder = parse(await readFile(file, 'utf8').catch(() => ''));
    if (holder !== undefined && isAtWork(holder, own.host)) throw atWork(folder, holder, own.host);
    await rm(file, { force: true });
  }
  // Two processes may have found the same old lock at once: the last one to write holds it.
  const now = parse(await readFile(file, 'utf8'));
  if (now?.pid !== own.pid) throw atWork(folder, now ?? own, own.host);
  if (held.size === 0) process.once('exit', releaseAll);
  held.add(file);
}

export async function releaseRunFolder(folder: string): Promise<void> {
  const file = path.resolve(folder, fileName);
  if (held.delete(file)) await rm(file, { force: true });
}

function releaseAll(): void {
  for (const file of held) rmSync(file, { force: true });
}

function atWork(folder: string, { pid, host }: Holder, own: string): UsageError {
  const who = host === own ? `process ${pid}` : `process ${pid} of ${host}`;
  const otherwise = host === own ? '' : `; if it has ended, remove ${path.join(folder, fileName)}`;
  return new UsageError(`${folder}: ${who} is at work there; wait for it, or name another folder with --out${otherwise}`);
}

/** Of a process on another machine nothing is known: it counts as being at work. */
function isAtWork({ pid, host, began }: Holder, own: string): boolean {
  if (host !== own) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return began === null || beginningOf(pid) === began;
}

/** Null where the system does not say (it is Linux that does). */
function beginningOf(pid: number): string | null {
  try {
    // The name, in parentheses, may hold anything; the twentieth field behind it is the start.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Undefined for what was cut short: nobody who holds a lock leaves it so. */
function parse(text: string): Holder | undefined {
  try {
    const found = JSON.parse(text) as Holder;
    return Number.isInteger(found.pid) && typeof found.host === 'string' ? found : undefined;
  } catch {
    return undefined;
  }
}
