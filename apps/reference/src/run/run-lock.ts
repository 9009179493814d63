import { randomUUID } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../errors.js';

/** Who works in a run folder. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the kernel's ticks where they can be read: another process may have got its number. */
  readonly began: string | null;
}

// A claim is an empty file whose name says everything, so that none is ever half-written; and no two have one name, so that
// removing a dead one never takes a live one in its place.
const mark = /^run\.lock\.(\d+)\.(\d*)\.[\w-]+\.(.+)$/;
const retries = 5;
const longestWaitMs = 100;

/** Marks that this process has in folders. */
const held = new Map<string, string>();

/**
 * Claims a run folder for this process until `releaseRunFolder`, or until the process ends, however it ends. Claiming twice is once.
 * @throws UsageError while another process works there
 */
export async function claimRunFolder(folder: string): Promise<void> {
  const key = path.resolve(folder);
  const own: Holder = { pid: process.pid, host: os.hostname(), began: beginningOf(process.pid) };
  const file = path.join(key, `run.lock.${own.pid}.${own.began ?? ''}.${randomUUID()}.${own.host}`);
  for (let attempt = 0; !held.has(key); attempt++) {
    // Marks first and looks second: of two that do so at once, one at least sees the other.
    await writeFile(file, '');
    const other = await findOther(key, path.basename(file), own.host);
    if (other === undefined) {
      if (held.size === 0) process.once('exit', releaseAll);
      held.set(key, file);
      return;
    }
    await rm(file, { force: true });
    if (attempt === retries) throw atWork(folder, other, own.host);
    // The other one may be about to withdraw as well.
    await sleep(Math.random() * longestWaitMs * (attempt + 1));
  }
}

/** Removes the marks of processes that are gone, and finds one of a process at work. */
async function findOther(folder: string, own: string, host: string): Promise<(Holder & { name: string }) | undefined> {
  for (const name of await readdir(folder)) {
    const [, pid, began, on] = mark.exec(name) ?? [];
    if (pid === undefined || name === own) continue;
    const holder = { name, pid: Number(pid), host: on, began: began || null };
    if (isAtWork(holder, host)) return holder;
    await rm(path.join(folder, name), { force: true });
  }
  return undefined;
}

export async function releaseRunFolder(folder: string): Promise<void> {
  const key = path.resolve(folder);
  const file = held.get(key);
  if (file === undefined) return;
  held.delete(key);
  // Who opens and closes many runs is not to gather listeners.
  if (held.size === 0) process.off('exit', releaseAll);
  await rm(file, { force: true });
}

function releaseAll(): void {
  for (const file of held.values()) rmSync(file, { force: true });
}

function atWork(folder: string, { pid, host, name }: Holder & { name: string }, own: string): UsageError {
  const who = host === own ? `process ${pid}` : `process ${pid} of ${host}`;
  const otherwise = host === own ? '' : `; if it has ended, remove ${path.join(folder, name)}`;
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
