import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { StoreInUseError, openStore } from '../src/index.js';
import { embedding, encoder, finished, said, startProcess, temporaryFolder } from './support.js';

describe('several processes on one LMDB store', () => {
  let folder: string;
  const address = (): string => JSON.stringify(`lmdb:${folder}`);

  beforeEach(() => {
    folder = temporaryFolder();
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test('kill -9 of a writer: everything it acknowledged is there', async () => {
    const child = startProcess(`
      const store = await openStore(${address()});
      for (let index = 0; ; index++) {
        await Promise.all([0, 1, 2].map(async (lane) => {
          await store.put(make('user-' + lane + '-' + index, index));
          say('user-' + lane + '-' + index);
        }));
      }`);
    const ended = finished(child);
    await said(child, 300);
    child.kill('SIGKILL');
    const { lines, signal } = await ended;
    expect(signal).toBe('SIGKILL');
    expect(lines.length).toBeGreaterThanOrEqual(300);
    await using store = await openStore(`lmdb:${folder}`, { check: 'full' });
    for (const user of lines) {
      const sequence = Number(user.split('-')[2]);
      expect(await store.get({ user }, { encoder })).toMatchObject({ status: 'found', embedding: { sequence } });
    }
    await store.put(embedding('after'));
    await store.compact();
    expect(await store.count()).toBeGreaterThan(lines.length);
  });

  test('one writes while another reads: whole records only, and the newest in the end', async () => {
    const stop = path.join(folder, 'stop');
    const child = startProcess(`
      import { existsSync } from 'node:fs';
      const store = await openStore(${address()});
      let round = 0;
      while (!existsSync(${JSON.stringify(stop)})) {
        round++;
        await store.putMany(Array.from({ length: 20 }, (_, user) => make('user-' + user, round, 1500)));
        if (round === 1) say('first round');
      }
      await store.close();
      say(String(round));`);
    const ended = finished(child);
    await said(child, 1);
    await using store = await openStore(`lmdb:${folder}`);
    const seen = new Set<number>();
    for (let user = 0; seen.size < 10; user = (user + 1) % 20) {
      const found = await store.get({ user: `user-${user}` }, { encoder });
      if (found.status !== 'found') throw new Error(`user-${user} is ${found.status}`);
      const { data, sequence } = found.embedding;
      seen.add(sequence);
      if (data.some((value) => value !== sequence)) throw new Error('a record mixes two writes');
      await new Promise((resolve) => setImmediate(resolve));
    }
    writeFileSync(stop, '');
    const [first, last] = (await ended).lines;
    expect(first).toBe('first round');
    for (let user = 0; user < 20; user++) {
      expect(await store.get({ user: `user-${user}` }, { encoder })).toMatchObject({ embedding: { sequence: Number(last) } });
    }
  });

  test('two writers: the newer sequence wins whoever comes last', async () => {
    const writer = (sequences: string): string => `
      const store = await openStore(${address()});
      for (const sequence of ${sequences}) for (let user = 0; user < 5; user++) await store.put(make('user-' + user, sequence));
      await store.close();`;
    const rising = startProcess(writer('Array.from({ length: 60 }, (_, index) => 2 * index)'));
    const falling = startProcess(writer('Array.from({ length: 60 }, (_, index) => 119 - 2 * index)'));
    for (const { code, errors } of await Promise.all([finished(rising), finished(falling)]))
      expect({ code, errors }).toEqual({ code: 0, errors: '' });
    await using store = await openStore(`lmdb:${folder}`);
    for (let user = 0; user < 5; user++) {
      expect(await store.get({ user: `user-${user}` }, { encoder })).toMatchObject({ embedding: { sequence: 119 } });
    }
  });

  test('two that bring one user up to date at once lose nothing, where each says what it replaces', async () => {
    const adder = `
      const store = await openStore(${address()});
      for (let event = 0; event < 40; event++) {
        let result;
        do {
          const found = await store.get({ user: 'user-1' }, { encoder: ${JSON.stringify(encoder)} });
          const replaces = found.status === 'found' ? found.embedding.sequence : 'nothing';
          result = await store.put(make('user-1', replaces === 'nothing' ? 1 : replaces + 1), { replaces });
        } while (result.status === 'changed');
      }
      await store.close();`;
    const children = [startProcess(adder), startProcess(adder)];
    for (const { code, errors } of await Promise.all(children.map(finished)))
      expect({ code, errors }).toEqual({ code: 0, errors: '' });
    await using store = await openStore(`lmdb:${folder}`);
    expect(await store.get({ user: 'user-1' }, { encoder })).toMatchObject({ embedding: { sequence: 80 } });
  });

  test('a store that another process has open is not compacted', async () => {
    const child = startProcess(`const store = await openStore(${address()}); say('open'); setInterval(() => {}, 1000);`);
    const ended = finished(child);
    await said(child, 1);
    await using store = await openStore(`lmdb:${folder}`);
    const error: unknown = await store.compact().catch((thrown: unknown) => thrown);
    expect(StoreInUseError.isInstance(error) && error.pids.length).toBe(1);
    child.kill('SIGKILL');
    await ended;
    await store.compact();
  });

  test('no room: a StoreFullError, no unhandled rejection, what was acknowledged stands, and close() returns', async () => {
    // A limit on the file's size fails the write inside LMDB's commit, as a disk that fills up meanwhile does.
    const { code, lines } = await finished(
      startProcess(
        `
        process.on('unhandledRejection', () => say('unhandled'));
        const store = await openStore(${address()});
        let written = 0, error;
        while (!error) await store.put(make('user-' + written, 1, 2000)).then(() => written++, (thrown) => (error = thrown));
        say(error.name);
        for (let user = 0; user < written; user++) {
          const { status } = await store.get({ user: 'user-' + user }, { encoder: ${JSON.stringify(encoder)} });
          if (status !== 'found') say('lost user-' + user);
        }
        await store.close();
        say('closed');`,
        { before: 'ulimit -f 1500; exec' },
      ),
    );
    expect({ code, lines }).toEqual({ code: 0, lines: ['StoreFullError', 'closed'] });
    await using store = await openStore(`lmdb:${folder}`, { check: 'full' });
    expect(await store.count()).toBeGreaterThan(10);
    await store.put(embedding('now there is room'));
  });

  const limited = spawnSync('prlimit', ['--version']).status === 0 ? test : test.skip;

  limited('no room for the lock of compact(): a StoreFullError, and the next open finds none', async () => {
    const { code, lines } = await finished(
      startProcess(`
        import { spawnSync } from 'node:child_process';
        const store = await openStore(${address()});
        await store.put(make('user'));
        spawnSync('prlimit', ['--pid', String(process.pid), '--fsize=0']);
        await store.compact().catch((error) => say(error.name));
        process.exit();`),
    );
    expect({ code, lines }).toEqual({ code: 0, lines: ['StoreFullError'] });
    expect(existsSync(path.join(folder, 'compacting'))).toBe(false);
    await using store = await openStore(`lmdb:${folder}`);
    expect(await store.count()).toBe(1);
  });
});
