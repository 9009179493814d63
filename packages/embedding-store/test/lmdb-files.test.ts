import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { DamagedRecordError, StoreAccessError, StoreDamagedError, StoreInUseError, openStore } from '../src/index.js';
import type { KeyNames } from '../src/index.js';
import { embedding, encoder, finished, startProcess, temporaryFolder } from './support.js';

const users = Array.from({ length: 200 }, (_, index) => `user-${index}`);
const wide = { shape: [16, 64] as [number, number], data: Float32Array.from({ length: 1024 }, (_, index) => index) };

describe('the file of an LMDB store', () => {
  let folder: string;
  let file: string;

  beforeEach(async () => {
    folder = temporaryFolder();
    file = path.join(folder, 'data.mdb');
    await using store = await openStore(`lmdb:${folder}`);
    await store.putMany(users.map((user) => embedding(user, wide)));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const opening = async (options = {}): Promise<unknown> => {
    const store = await openStore(`lmdb:${folder}`, options).catch((error: unknown) => error);
    if (store instanceof Error) return store;
    await (store as { close(): Promise<void> }).close();
    return undefined;
  };

  test('is found again by the next open', async () => {
    await using store = await openStore(`lmdb:${folder}`, { check: 'full' });
    expect(await store.count()).toBe(users.length);
    expect(await store.get({ user: 'user-7' }, { encoder })).toMatchObject({ status: 'found', embedding: { data: wide.data } });
  });

  test('with a flipped bit gives `damaged` for that user only, and a new write mends it', async () => {
    const bytes = readFileSync(file);
    const at = bytes.lastIndexOf(Buffer.from(`user-77${encoder}`));
    // The matrix follows the record's names; LMDB itself has no checksum, and would serve the changed number.
    bytes[at + 'user-77'.length + 128 + 100] ^= 4;
    writeFileSync(file, bytes);
    await using store = await openStore(`lmdb:${folder}`);
    expect(await store.get({ user: 'user-77' }, { encoder })).toEqual({
      status: 'damaged',
      reason: 'its checksum does not match',
    });
    expect(await store.get({ user: 'user-78' }, { encoder })).toMatchObject({ status: 'found' });
    const scanAll = async (onDamaged?: (reason: string, of: KeyNames) => void): Promise<number> => {
      let count = 0;
      for await (const _ of store.scan({ onDamaged })) count++;
      return count;
    };
    const error: unknown = await scanAll().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ tenant: '', user: 'user-77', encoder, reason: 'its checksum does not match' });
    expect(DamagedRecordError.isInstance(error)).toBe(true);
    const damaged: unknown[] = [];
    expect(await scanAll((...given) => damaged.push(given))).toBe(users.length - 1);
    expect(damaged).toEqual([['its checksum does not match', { tenant: '', user: 'user-77', encoder }]]);
    await store.put(embedding('user-77', { ...wide, sequence: 0 }));
    expect(await store.get({ user: 'user-77' }, { encoder })).toMatchObject({ status: 'found' });
  });

  test.each([10, 100, 4096, 5000, 8192, 20_480])(
    'cut to %d bytes is a StoreDamagedError, and this process lives',
    async (bytes) => {
      truncateSync(file, bytes);
      const error = await opening();
      expect(StoreDamagedError.isInstance(error) && error.path).toBe(folder);
    },
  );

  test('that lost its last page, where LMDB lists the free ones, is a StoreDamagedError', async () => {
    truncateSync(file, readFileSync(file).length - 4096);
    const error = await opening();
    expect(StoreDamagedError.isInstance(error) && error.reason).toContain('free pages');
  });

  test('that lost its second half is a StoreDamagedError', async () => {
    truncateSync(file, Math.floor(readFileSync(file).length / 8192) * 4096);
    expect(StoreDamagedError.isInstance(await opening())).toBe(true);
  });

  test.each([
    ['magic', 24, 0xff],
    ['page size', 48, 0xff],
  ])('with a damaged header (%s) is a StoreDamagedError', async (_name, offset, value) => {
    const bytes = readFileSync(file);
    bytes[offset] ^= value;
    writeFileSync(file, bytes);
    expect(StoreDamagedError.isInstance(await opening())).toBe(true);
  });

  test('whose root pointers lead nowhere is a StoreDamagedError: only a trial process dies of it', async () => {
    const bytes = readFileSync(file);
    // The root page of the main tree stands 40 bytes into its description, in every meta page.
    for (const meta of [0, 2048, 4096]) bytes.writeBigUInt64LE(0x0fff_ffffn, meta + 24 + 72 + 40);
    writeFileSync(file, bytes);
    expect(StoreDamagedError.isInstance(await opening())).toBe(true);
  });

  test('that is something else entirely is a StoreDamagedError', async () => {
    writeFileSync(file, 'user,item\n'.repeat(10_000));
    const error = await opening();
    expect(StoreDamagedError.isInstance(error) && error.reason).toContain('meta page');
  });

  test('holds the bytes of an erased user until compact(), and not after', async () => {
    const secret = Float32Array.from({ length: 1024 }, (_, index) => Math.fround(Math.sin(index) * 1e-3));
    const bytes = Buffer.from(secret.buffer).subarray(0, 3000);
    await using store = await openStore(`lmdb:${folder}`);
    await store.put(embedding('someone', { ...wide, data: secret }));
    await store.erase({ user: 'someone' });
    expect(await store.get({ user: 'someone' }, { encoder })).toEqual({ status: 'missing' });
    expect(readFileSync(file).includes(bytes)).toBe(true);
    await store.erase({ user: 'user-3' });
    const { bytesBefore, bytesAfter } = await store.compact();
    expect(bytesAfter).toBeLessThan(bytesBefore);
    expect(readFileSync(file).includes(bytes)).toBe(false);
    expect(readFileSync(file).includes(Buffer.from('someone'))).toBe(false);
    expect(readFileSync(file).includes(Buffer.from(`user-3${encoder}`))).toBe(false);
    expect(await store.count()).toBe(users.length - 1);
    expect(await store.get({ user: 'user-9' }, { encoder })).toMatchObject({ status: 'found', embedding: { data: wide.data } });
    await store.put(embedding('later'));
    expect((await store.stats()).records).toBe(users.length);
    expect(
      readdirSync(folder)
        .filter((name) => !name.startsWith('open.'))
        .sort(),
    ).toEqual(['data.mdb', 'lock.mdb']);
  });

  test('writes and reads that come while compact() runs wait, and none is lost', async () => {
    await using store = await openStore(`lmdb:${folder}`);
    const compacting = store.compact();
    const puts = Promise.all(users.map((user) => store.put(embedding(user, { sequence: 2 }))));
    const gets = Promise.all(users.map((user) => store.get({ user }, { encoder })));
    await Promise.all([compacting, puts]);
    expect((await gets).every(({ status }) => status === 'found')).toBe(true);
    for (const user of users) expect(await store.get({ user }, { encoder })).toMatchObject({ embedding: { sequence: 2 } });
  });

  test('two compactions that one handle asks for at once are one', async () => {
    await using store = await openStore(`lmdb:${folder}`);
    await store.erase({ user: 'user-3' });
    const [one, other] = await Promise.all([store.compact(), store.compact()]);
    expect(other).toEqual(one);
    expect((await store.compact()).bytesBefore).toBe(one.bytesAfter);
  });

  test('loses the bytes of a user erased while compact() ran to the next compact()', async () => {
    // In memory where that is to be had: a commit is then as quick as what a compaction has left to do.
    const quick = temporaryFolder(existsSync('/dev/shm') ? '/dev/shm' : undefined);
    try {
      await using store = await openStore(`lmdb:${quick}`);
      for (let round = 0; round < 20; round++) {
        const user = `someone-${round}.`;
        await store.put(embedding(user));
        const before = store.compact();
        while (!existsSync(path.join(quick, 'compacted'))) await new Promise(setImmediate);
        await store.erase({ user });
        await store.compact();
        expect(readFileSync(path.join(quick, 'data.mdb')).includes(user)).toBe(false);
        await before;
      }
    } finally {
      rmSync(quick, { recursive: true, force: true });
    }
  });

  test('that cannot be opened again after compact(): every use says why, and the next store finds all', async () => {
    const store = await openStore(`lmdb:${folder}`);
    const lock = path.join(folder, 'lock.mdb');
    const compacting = store.compact();
    // In the place of the lock file once compact() has removed it, so that LMDB cannot make it anew.
    while (existsSync(lock)) await new Promise(setImmediate);
    mkdirSync(lock);
    const uses = [
      compacting,
      store.get({ user: 'user-1' }, { encoder }),
      store.put(embedding('later')),
      store.scan().next(),
      store.count(),
      store.stats(),
      store.compact(),
    ];
    for (const result of await Promise.allSettled(uses))
      expect(result.status === 'rejected' && StoreAccessError.isInstance(result.reason) && result.reason.path).toBe(folder);
    await store.close();
    rmdirSync(lock);
    await using again = await openStore(`lmdb:${folder}`);
    expect(await again.count()).toBe(users.length);
  });

  describe.each(['data.mdb', 'lock.mdb'])('where %s', (name) => {
    test('is no file: a StoreAccessError, with no word of damage', async () => {
      rmSync(path.join(folder, name));
      mkdirSync(path.join(folder, name));
      const error = await opening();
      expect(StoreAccessError.isInstance(error) && error.message).toContain(`${name} in it is not a file`);
    });

    test('is not to be written by this user: a StoreAccessError, and the process lives', async () => {
      const warm = temporaryFolder();
      for (const shared of [folder, warm]) chmodSync(shared, 0o777);
      for (const each of readdirSync(folder)) chmodSync(path.join(folder, each), 0o666);
      chmodSync(path.join(folder, name), 0o444);
      const { code, lines, errors } = await finished(
        // Whoever may write everything becomes somebody else, after all modules are loaded.
        startProcess(`
          await (await openStore(${JSON.stringify(`lmdb:${warm}`)})).close();
          if (process.getuid() === 0) process.setuid(65534);
          await openStore(${JSON.stringify(`lmdb:${folder}`)}).catch(({ name, message }) => say(name + ': ' + message));`),
      );
      rmSync(warm, { recursive: true, force: true });
      expect([code, errors]).toEqual([0, '']);
      expect(lines[0]).toMatch(new RegExp(`^StoreAccessError: .*(EACCES|EPERM).*${name}`));
    });
  });

  test('is not compacted while another handle has it open', async () => {
    await using store = await openStore(`lmdb:${folder}`);
    const second = await openStore(`lmdb:${folder}`);
    const error: unknown = await store.compact().catch((thrown: unknown) => thrown);
    expect(StoreInUseError.isInstance(error) && error.pids).toEqual([process.pid]);
    await second.close();
    await store.compact();
  });

  test('marks and half-made copies of processes that are gone are cleaned up', async () => {
    writeFileSync(path.join(folder, 'open.999999999.gone'), '');
    writeFileSync(path.join(folder, 'compacting'), '999999999');
    await using store = await openStore(`lmdb:${folder}`);
    await store.compact();
    expect(existsSync(path.join(folder, 'open.999999999.gone'))).toBe(false);
    expect(existsSync(path.join(folder, 'compacting'))).toBe(false);
  });

  test('a lock that a full disk left empty keeps nobody out once it is old', async () => {
    const lock = path.join(folder, 'compacting');
    writeFileSync(lock, '');
    utimesSync(lock, 0, 0);
    await using store = await openStore(`lmdb:${folder}`);
    await store.compact();
    expect(existsSync(lock)).toBe(false);
  });

  const onLinux = existsSync('/proc/self/ns/pid') ? test : test.skip;

  onLinux('marks of a process whose number another one has got since are cleaned up', async () => {
    const mine = readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
    writeFileSync(path.join(folder, `open.${process.pid}.gone_1_${mine}`), '');
    writeFileSync(path.join(folder, 'compacting'), `${process.pid} 1 ${mine}`);
    await using store = await openStore(`lmdb:${folder}`);
    await store.compact();
    expect(readdirSync(folder).filter((name) => name.includes('gone') || name === 'compacting')).toEqual([]);
  });

  onLinux('a mark from another container counts, and the error names it: whether that one is gone cannot be told', async () => {
    const file = path.join(folder, 'open.999999999.elsewhere_1_1');
    writeFileSync(file, '');
    await using store = await openStore(`lmdb:${folder}`);
    const error: unknown = await store.compact().catch((thrown: unknown) => thrown);
    expect(StoreInUseError.isInstance(error) && error.message).toContain(
      `If that was in a container that is gone, remove ${file}.`,
    );
    rmSync(file);
    await store.compact();
  });
});

test('a folder that cannot be made is a StoreAccessError', async () => {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, 'file'), '');
  const error: unknown = await openStore(`lmdb:${path.join(folder, 'file', 'store')}`).catch((thrown: unknown) => thrown);
  expect(StoreAccessError.isInstance(error)).toBe(true);
  rmSync(folder, { recursive: true });
});
