import { readdir, rename, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { threadId } from 'node:worker_threads';

const ending = '.partial';
const host = hostname().replace(/[^\w-]/g, '_');

/** After so long without a byte, another machine's partial file is nobody's. */
const abandonedMs = 10 * 60_000;

/**
 * Where this thread gathers the bytes of `place`: a file of its own, so that processes and threads that fetch one file do not meet. What a
 * process that ended has left is taken over.
 */
export async function partialFile(place: string): Promise<string> {
  const own = `${place}.${host}.${process.pid}.${threadId}${ending}`;
  const folder = path.dirname(place);
  const names = await readdir(folder);
  if (names.includes(path.basename(own))) return own;
  for (const name of names) {
    if (!name.startsWith(`${path.basename(place)}.`) || !name.endsWith(ending)) continue;
    const left = path.join(folder, name);
    if (!(await isAbandoned(left))) continue;
    try {
      await rename(left, own);
      break;
    } catch (error) {
      // Another process took it over first.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return own;
}

async function isAbandoned(file: string): Promise<boolean> {
  // Older versions named no thread.
  const [, owner, pid] = /\.([\w-]+)\.(\d+)(?:\.\d+)?\.partial$/.exec(file) ?? [];
  if (owner === host) return !isRunning(Number(pid));
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > abandonedMs;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const underWay = new Map<string, Promise<void>>();

/** Runs `work` when no other call of this thread works on `place`. */
export async function alone(place: string, signal: AbortSignal | undefined, work: () => Promise<void>): Promise<void> {
  for (let other; (other = underWay.get(place)) !== undefined;) {
    await other;
    signal?.throwIfAborted();
  }
  const run = work();
  const settled = run.catch(() => undefined).finally(() => underWay.delete(place));
  underWay.set(place, settled);
  await run;
}
