import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openStore } from '../src/index.js';
import { afterPowerCut, parseTrace, straceInto, straceWorks } from './disk-trace.js';
import type { DiskEvent } from './disk-trace.js';
import { encoder, finished, startProcess, temporaryFolder } from './support.js';

// kill -9 leaves the operating system's cache in place and so proves nothing about a power cut. Here a writer's requests to the
// disk are recorded, and replayed up to many points with unsynced sectors lost at random.

const recordable = straceWorks();
if (!recordable) console.warn('Power cuts are not simulated: that takes strace, with the right to trace a process.');

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

(recordable ? describe : describe.skip)('a power cut', () => {
  let folder: string;
  let events: DiskEvent[];

  beforeAll(async () => {
    folder = temporaryFolder();
    const trace = path.join(folder, 'trace');
    const body = `
      const store = await openStore(${JSON.stringify(`lmdb:${path.join(folder, 'written')}`)});
      for (let round = 1; round <= 12; round++) {
        await store.putMany(Array.from({ length: 5 }, (_, user) => make('user-' + user, round, 700 + 100 * user)));
        say('batch ' + round);
        await store.put(make('single', round, 1000));
        say('single ' + round);
      }
      await store.close();`;
    const { code, errors } = await finished(startProcess(body, { before: straceInto(trace) }));
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    events = parseTrace(readFileSync(trace, 'latin1'), 'written/data.mdb');
    // The record is whole only if it rebuilds the file; the writer's close() has left nothing unsynced.
    const rebuilt = afterPowerCut(events, events.length, () => 1);
    expect(rebuilt.equals(readFileSync(path.join(folder, 'written/data.mdb')))).toBe(true);
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What is wrong with the store that a cut after `count` events leaves: nothing, or what was acknowledged and is not there. */
  async function loss(count: number, seed: number, honourSync: boolean): Promise<string | undefined> {
    const acknowledged = { batch: 0, single: 0 };
    for (const event of events.slice(0, count)) {
      if (event.kind !== 'said') continue;
      const [what, round] = event.line.split(' ') as ['batch' | 'single', string];
      acknowledged[what] = Number(round);
    }
    const place = path.join(folder, `cut-${count}-${seed}-${honourSync}`);
    mkdirSync(place);
    writeFileSync(path.join(place, 'data.mdb'), afterPowerCut(events, count, seeded(seed), { honourSync }));
    try {
      const store = await openStore(`lmdb:${place}`, { check: honourSync ? 'quick' : 'full' });
      try {
        for (const user of ['user-0', 'user-1', 'user-2', 'user-3', 'user-4', 'single']) {
          const wanted = acknowledged[user === 'single' ? 'single' : 'batch'];
          const found = await store.get({ user }, { encoder });
          const sequence = found.status === 'found' ? found.embedding.sequence : 0;
          if (found.status === 'damaged' || sequence < wanted)
            return `${user}: ${found.status} ${sequence}, acknowledged ${wanted}`;
        }
        return undefined;
      } finally {
        await store.close();
      }
    } catch (error) {
      return (error as Error).message;
    } finally {
      rmSync(place, { recursive: true, force: true });
    }
  }

  async function losses(honourSync: boolean, cuts: number): Promise<string[]> {
    const random = seeded(honourSync ? 77 : 11);
    const first = events.findIndex((event) => event.kind === 'said');
    const found: string[] = [];
    for (let cut = 0; cut < cuts; cut++) {
      const count = first + 1 + Math.floor(random() * (events.length - first));
      const lost = await loss(count, cut + 1, honourSync);
      if (lost !== undefined) found.push(`cut after ${count} of ${events.length}: ${lost}`);
    }
    return found;
  }

  test('takes nothing that was acknowledged', async () => {
    expect(events.filter(({ kind }) => kind === 'said')).toHaveLength(24);
    expect(await losses(true, 40)).toEqual([]);
  }, 120_000);

  test('would take it, were the disk not waited for', async () => {
    expect((await losses(false, 10)).length).toBeGreaterThan(0);
  }, 120_000);
});
