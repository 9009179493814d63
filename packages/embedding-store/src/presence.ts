import { randomUUID } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StoreInUseError } from './errors.js';

// Who has a store open: one small file per handle, so that compact(), which replaces the data file, never does so under
// another process. Opening leaves its mark first and looks for a compaction second; compacting does it the other way round, so
// one of the two always sees the other. Marks of processes that are gone are removed.

const mark = /^open\.(\d+)\.[\w-]+$/;
const lock = 'compacting';
const patienceMs = 10_000;

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Process that is compacting the store, if one is. */
async function compactingPid(folder: string): Promise<number | undefined> {
  const text = await readFile(path.join(folder, lock), 'utf8').catch(() => undefined);
  const pid = Number(text);
  return text !== undefined && (text === '' || alive(pid)) ? pid : undefined;
}

/** The mark of one open handle. */
export class Presence {
  readonly #folder: string;
  readonly #file: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#file = path.join(folder, `open.${process.pid}.${randomUUID()}`);
  }

  /** Leaves a mark in the folder; waits for a running compaction, and throws StoreInUseError where it does not end. */
  static async enter(folder: string): Promise<Presence> {
    const presence = new Presence(folder);
    for (let waited = 0; ; waited += 50) {
      await writeFile(presence.#file, '');
      const pid = await compactingPid(folder);
      if (pid === undefined) return presence;
      await presence.leave();
      if (waited >= patienceMs) throw new StoreInUseError(folder, [pid], 'being compacted');
      await sleep(50);
    }
  }

  async leave(): Promise<void> {
    await rm(this.#file, { force: true });
  }

  /** Runs `action` while no other handle has the store open; throws StoreInUseError where one has. */
  async alone<T>(action: () => Promise<T>): Promise<T> {
    const file = path.join(this.#folder, lock);
    const holder = await compactingPid(this.#folder);
    if (holder !== undefined) throw new StoreInUseError(this.#folder, [holder], 'being compacted');
    await rm(file, { force: true });
    await writeFile(file, String(process.pid), { flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') throw new StoreInUseError(this.#folder, [], 'being compacted');
      throw error;
    });
    try {
      const others = await this.#others();
      if (others.length > 0) throw new StoreInUseError(this.#folder, others, 'open elsewhere too');
      return await action();
    } finally {
      await rm(file, { force: true });
    }
  }

  async #others(): Promise<number[]> {
    const pids: number[] = [];
    for (const name of await readdir(this.#folder)) {
      const pid = Number(mark.exec(name)?.[1] ?? NaN);
      if (Number.isNaN(pid) || name === path.basename(this.#file)) continue;
      if (alive(pid)) pids.push(pid);
      else await rm(path.join(this.#folder, name), { force: true });
    }
    return pids;
  }
}
