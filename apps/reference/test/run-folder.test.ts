import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { TokenizerHashError } from '@user-llm/event-tokenizer';
import { UsageError } from '../src/errors.js';
import { RunFolder } from '../src/run/run-folder.js';
import { identityOf } from '../src/run/run-manifest.js';

const settings = { data: null, seed: 1, llm: null, minutes: 5, ranking: 'item-tokens' } as const;
let folder: string;
beforeEach(async () => {
  folder = path.join(await mkdtemp(path.join(os.tmpdir(), 'run-')), 'run');
});

async function begun(): Promise<RunFolder> {
  const run = await RunFolder.create(folder, settings);
  await run.begin();
  return run;
}

/** Without the mark of who works there. */
const contents = async (): Promise<string[]> => (await readdir(folder)).filter((name) => !name.startsWith('run.lock')).sort();

describe('a run folder', () => {
  it('is made when its first stage begins, after what may refuse it', async () => {
    const run = await RunFolder.create(folder, settings);
    const refused = run.stage('fit', 1, () => Promise.resolve({}), { before: () => Promise.reject(new Error('too small')) });
    await expect(refused).rejects.toThrow('too small');
    expect(existsSync(folder)).toBe(false);
    await run.stage('fit', 1, () => Promise.resolve({ existed: existsSync(folder) }));
    expect((await RunFolder.open(folder)).finished('fit')?.result).toEqual({ existed: true });
  });

  it('runs a finished stage again only when what it depends on has changed', async () => {
    let count = 0;
    const work = async (): Promise<{ count: number }> => ({ count: ++count });
    const run = await RunFolder.create(folder, settings);
    await run.stage('fit', { a: 1 }, work);
    const again = await RunFolder.create(folder, settings);
    expect((await again.stage('fit', { a: 1 }, work)).result).toEqual({ count: 1 });
    expect((await again.stage('fit', { a: 2 }, work)).result).toEqual({ count: 2 });
  });

  it('runs a stage again, and says so to those that build on it, when what it left is gone', async () => {
    const run = await RunFolder.create(folder, settings);
    const work = async (): Promise<Record<string, never>> => {
      await mkdir(run.path('encoder'));
      return {};
    };
    await run.stage('pretrain', 1, work, { leaves: ['encoder'] });
    expect(run.need('pretrain', 'pretrain').leaves).toEqual(['encoder']);
    await rm(run.path('encoder'), { recursive: true });
    expect(() => run.need('pretrain', 'pretrain')).toThrow(
      `${folder}: encoder, which 'pretrain' left, is gone; run: user-llm pretrain --run ${folder}`,
    );
    await run.stage('pretrain', 1, work, { leaves: ['encoder'] });
    expect(existsSync(run.path('encoder'))).toBe(true);
  });

  it('keeps no record of a stage that failed', async () => {
    const run = await RunFolder.create(folder, settings);
    await expect(run.stage('fit', 1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect((await RunFolder.open(folder)).finished('fit')).toBeUndefined();
  });

  it('refuses other settings, also those that are left out, and says which', async () => {
    await begun();
    await expect(RunFolder.create(folder, { ...settings, seed: 2 })).rejects.toThrow(/--seed 1, not 2/);
    await expect(RunFolder.create(folder, { ...settings, encoderSteps: 9 })).rejects.toThrow(/--encoder-steps left out, not 9/);
    await expect(RunFolder.open(folder, 2)).rejects.toThrow(/--seed 1, not 2/);
  });

  it('may ask more users: nothing is trained anew for that', async () => {
    const asking = async (users: number | undefined): Promise<number | undefined> => {
      const run = await RunFolder.create(folder, users === undefined ? settings : { ...settings, users });
      await run.begin();
      await run.close();
      expect((await RunFolder.open(folder)).settings).toEqual(run.settings);
      return run.settings.users;
    };
    expect(await asking(undefined)).toBeUndefined();
    expect(await asking(900)).toBe(900);
    expect(await asking(undefined)).toBe(900);
    await expect(asking(50)).rejects.toThrow(/--users 900, not 50/);
  });

  it('says which making of a stage another one builds on', async () => {
    const run = await begun();
    const work = async (): Promise<Record<string, never>> => {
      await mkdir(run.path('language'));
      return {};
    };
    const made = await run.stage('language', 1, work, { leaves: ['language'] });
    expect(identityOf(made)).toBe(made.key);
    await rm(run.path('language'), { recursive: true });
    const again = await run.stage('language', 1, work, { leaves: ['language'] });
    expect(again.key).toBe(made.key);
    expect(identityOf(again)).not.toBe(made.key);
    expect(identityOf((await RunFolder.open(folder)).need('language', 'adapt'))).toBe(identityOf(again));
  });

  it('removes what an unfinished stage needs only when the record that it is finished is on the disk', async () => {
    const run = await begun();
    const checkpoint = run.path('checkpoints', 'a.safetensors');
    await mkdir(run.path('checkpoints'));
    await writeFile(checkpoint, 'hours of work');
    const recorded: boolean[] = [];
    const after = async (): Promise<void> => {
      recorded.push((await RunFolder.open(folder)).finished('adapt') !== undefined);
      await rm(checkpoint, { force: true });
    };
    await run.stage('adapt', 1, () => Promise.resolve({ existed: existsSync(checkpoint) }), { after });
    expect(run.finished('adapt')?.result).toEqual({ existed: true });
    // And where a crash came between the two.
    await writeFile(checkpoint, 'left over');
    await run.stage('adapt', 1, () => Promise.reject(new Error('finished already')), { after });
    expect(existsSync(checkpoint)).toBe(false);
    expect(recorded).toEqual([true, true]);
  });

  it('forgets stages on the disk too', async () => {
    const run = await begun();
    for (const name of ['encode a', 'encode b', 'fit']) await run.stage(name, 1, () => Promise.resolve({}));
    await run.forget('encode ');
    const now = await RunFolder.open(folder);
    expect(['encode a', 'encode b', 'fit'].map((name) => now.finished(name) !== undefined)).toEqual([false, false, true]);
  });

  it('says what to run when an earlier stage is missing', async () => {
    const run = await RunFolder.create(folder, settings);
    run.chosen = ' --suite full';
    expect(() => run.need('pretrain', 'pretrain')).toThrow(new RegExp(`run: user-llm pretrain --run ${folder}$`));
    expect(() => run.need('encode', 'encode')).toThrow(/run: user-llm encode --run \S+ --suite full$/);
  });

  it('says how to make anew what is damaged', async () => {
    const run = await begun();
    const damaged = new TokenizerHashError('tokenizer.json', 'a'.repeat(64), 'b'.repeat(64));
    await expect(run.read('tokenizer.json', 'pretrain', () => Promise.reject(damaged))).rejects.toThrow(
      new RegExp(`changed or damaged.*\\. Remove ${run.path('tokenizer.json')} and run: user-llm pretrain --run ${folder}$`),
    );
    const bug = new TypeError('a bug');
    await expect(run.read('tokenizer.json', 'pretrain', () => Promise.reject(bug))).rejects.toBe(bug);
  });

  it('is not opened where there is none, where a file is, or where its record is damaged or newer', async () => {
    await expect(RunFolder.open(folder)).rejects.toThrow(UsageError);
    await writeFile(folder, 'mine');
    await expect(RunFolder.create(folder, settings)).rejects.toThrow(/is a file/);
    expect(await readFile(folder, 'utf8')).toBe('mine');
    await rm(folder);
    await begun();
    const file = path.join(folder, 'run.json');
    await writeFile(file, '{');
    await expect(RunFolder.open(folder)).rejects.toThrow(/damaged/);
    await writeFile(file, JSON.stringify({ format: 'user-llm run 2', settings: {}, stages: {} }));
    await expect(RunFolder.open(folder)).rejects.toThrow(/record of 'user-llm run 2', and this version reads 'user-llm run 1'/);
  });

  it('clears what a run left and nothing else, when the new run begins', async () => {
    await begun();
    await writeFile(path.join(folder, 'mine.txt'), 'keep');
    await writeFile(path.join(folder, 'report.json'), 'old');
    const fresh = await RunFolder.create(folder, { ...settings, seed: 2 }, { fresh: true });
    expect(existsSync(fresh.path('report.json'))).toBe(true);
    await fresh.begin();
    expect(await contents()).toEqual(['mine.txt', 'run.json']);
    expect((await RunFolder.open(folder)).settings.seed).toBe(2);
  });

  it('is rid of what killed runs left half-written', async () => {
    await (await begun()).close();
    await mkdir(path.join(folder, 'systems', 'text.77-0a.tmp'), { recursive: true });
    for (const name of ['run.json.77-0a.tmp', '.report.html.77.tmp', 'mine.tmp', 'systems/text.safetensors.77-0a.tmp'])
      await writeFile(path.join(folder, name), 'half');
    await begun();
    expect(await contents()).toEqual(['mine.tmp', 'run.json', 'systems']);
    expect(await readdir(path.join(folder, 'systems'))).toEqual([]);
  });
});

describe('two processes in one run folder', () => {
  /** A process that sleeps. */
  async function other(): Promise<{ pid: number; end: () => Promise<void> }> {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    await new Promise((resolve) => child.once('spawn', resolve));
    const ended = new Promise((resolve) => child.once('exit', resolve));
    return { pid: child.pid!, end: async () => void (child.kill('SIGKILL'), await ended) };
  }
  /** The lock of a process as that process would have left it. */
  const lock = (pid: number, host = os.hostname(), beginning = ''): Promise<void> =>
    writeFile(path.join(folder, `run.lock.${pid}.${beginning}.a-name.${host}`), '');

  it('is one too many, and the second is told of the first', async () => {
    await (await begun()).close();
    const { pid, end } = await other();
    await lock(pid);
    await expect(begun()).rejects.toThrow(`${folder}: process ${pid} is at work there; wait for it, or name another folder`);
    await end();
    // A process that was killed leaves its lock, which holds nobody up.
    await (await begun()).close();
    expect(await readdir(folder)).toEqual(['run.json']);
  });

  it('of another machine is taken at its word', async () => {
    await (await begun()).close();
    await lock(1, 'elsewhere');
    await expect(begun()).rejects.toThrow(
      /process 1 of elsewhere is at work there.*if it has ended, remove .*run\.lock\.1\.\.a-name\.elsewhere$/,
    );
  });

  it('with a number that another process has got since is none', async () => {
    await (await begun()).close();
    await lock(process.ppid, os.hostname(), '1');
    // Only Linux says when a process began.
    const answer = begun().then(
      () => 'begun',
      () => 'refused',
    );
    expect(await answer).toBe(existsSync('/proc/self/stat') ? 'begun' : 'refused');
  });

  it('of which a third was killed there are never both at work, however many find its lock at once', async () => {
    const claimant = `
      import { claimRunFolder, releaseRunFolder } from ${JSON.stringify(new URL('../dist/run/run-lock.js', import.meta.url).href)};
      process.on('message', async ({ folder, at }) => {
        while (Date.now() < at);
        process.send(await claimRunFolder(folder).then(() => 'at work', (error) => error.name));
      });
      process.send('ready');`;
    const start = (): ChildProcess =>
      spawn(process.execPath, ['--input-type=module', '--eval', claimant], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const children = [start(), start(), start(), start()];
    const answers = (): Promise<unknown[]> =>
      Promise.all(children.map((child) => new Promise((resolve) => child.once('message', resolve))));
    try {
      await answers();
      for (let round = 0; round < 3; round++) {
        folder = await mkdtemp(path.join(os.tmpdir(), 'run-'));
        await lock(999_999_999);
        const claims = answers();
        for (const child of children) child.send({ folder, at: Date.now() + 20 });
        expect((await claims).sort()).toEqual(['UsageError', 'UsageError', 'UsageError', 'at work']);
      }
    } finally {
      for (const child of children) child.kill('SIGKILL');
    }
  });

  it('goes on with what the first one has finished meanwhile', async () => {
    const late = await RunFolder.create(folder, settings);
    const first = await begun();
    await first.stage('fit', 1, () => Promise.resolve({ by: 'first' }));
    await first.close();
    expect((await late.stage('fit', 1, () => Promise.resolve({ by: 'late' }))).result).toEqual({ by: 'first' });
  });
});
