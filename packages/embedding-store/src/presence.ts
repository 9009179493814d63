import { randomUUID } from 'node:crypto';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StoreFullError, StoreInUseError } from './errors.js';
import { alive, isElsewhere, own, type Holder } from './holder.js';

// Who has a store open: one small file per handle, so that compact(), which replaces the data file, never does so under
// another process. Opening leaves its mark first and looks for a compaction second; compacting does it the other way round, so
// one of the two always sees the other. Marks of processes that are gone are removed.

const mark = /^open\.(\d+)\.[a-zA-Z\d-]+(?:_(\d*)_(\d*))?$/;
const lock = 'compacting';
const patienceMs = 10_000;
const noRoom = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** The error for a store that `holders` have open; names the file of one that may be gone without its mark having been removed. */
function inUse(folder: string, holders: readonly (Holder & { name: string })[], what: string): StoreInUseError {
  const elsewhere = holders.find(({ space }) => isElsewhere(space));
  const pids = holders.map(({ pid }) => pid);
  return new StoreInUseError(folder, pids, what, elsewhere && path.join(folder, elsewhere.name));
}

/** Process that is compacting the store, if one is. */
async function compacting(folder: string): Promise<(Holder & { name: string }) | undefined> {
  const file = path.join(folder, lock);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const [pid, began = '', space = ''] = text.split(' ');
  const holder = { pid: Number(pid), began, space, name: lock };
  if (text !== '') return alive(holder) ? holder : undefined;
  // About to be written, or left by a process that ended before it was.
  const age = Date.now() - (await stat(file).catch(() => ({ mtimeMs: -Infinity }))).mtimeMs;
  return age < patienceMs ? holder : undefined;
}

/** The mark of one open handle. */
export class Presence {
  readonly #folder: string;
  readonly #file: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#file = path.join(folder, `open.${own.pid}.${randomUUID()}_${own.began}_${own.space}`);
  }

  /** Leaves a mark in the folder; waits for a running compaction, and throws StoreInUseError where it does not end. */
  static async enter(folder: string): Promise<Presence> {
    const presence = new Presence(folder);
    for (let waited = 0; ; waited += 50) {
      await writeFile(presence.#file, '');
      const holder = await compacting(folder);
      if (holder === undefined) return presence;
      await presence.leave();
      if (waited >= patienceMs) throw inUse(folder, [holder], 'being compacted');
      await sleep(50);
    }
  }

  async leave(): Promise<void> {
    await rm(this.#file, { force: true });
  }

  /** Runs `action` while no other handle has the store open; throws StoreInUseError where one has. */
  async alone<T>(action: () => Promise<T>): Promise<T> {
    const file = path.join(this.#folder, lock);
    const holder = await compacting(this.#folder);
    if (holder !== undefined) throw inUse(this.#folder, [holder], 'being compacted');
    await rm(file, { force: true });
    await writeFile(file, `${own.pid} ${own.began} ${own.space}`, { flag: 'wx' }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') throw new StoreInUseError(this.#folder, [], 'being compacted');
      // What a full disk left of it would keep everybody out.
      await rm(file, { force: true });
      throw noRoom.has(error.code ?? '') ? new StoreFullError(this.#folder, error.message) : error;
    });
    try {
      const others = await this.#others();
      if (others.length > 0) throw inUse(this.#folder, others, 'open elsewhere too');
      return await action();
    } finally {
      await rm(file, { force: true });
    }
  }

  async #others(): Promise<(Holder & { name: string })[]> {
    const others: (Holder & { name: string })[] = [];
    for (const name of await readdir(this.#folder)) {
      const [, pid, began = '', space = ''] = mark.exec(name) ?? [];
      if (pid === undefined || name === path.basename(this.#file)) continue;
      const holder = { pid: Number(pid), began, space, name };
      if (alive(holder)) others.push(holder);
      else await rm(path.join(this.#folder, name), { force: true });
    }
    return others;
  }
}
