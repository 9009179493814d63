import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { UsageError } from '../src/errors.js';
import { RunFolder } from '../src/run/run-folder.js';

const settings = { data: null, seed: 1, llm: null, minutes: 5, ranking: 'item-tokens' } as const;
let folder: string;
beforeEach(async () => {
  folder = path.join(await mkdtemp(path.join(os.tmpdir(), 'run-')), 'run');
});

describe('a run folder', () => {
  it('runs a finished stage again only when what it depends on has changed', async () => {
    let count = 0;
    const work = async (): Promise<{ count: number }> => ({ count: ++count });
    const run = await RunFolder.create(folder, settings);
    await run.stage('fit', { a: 1 }, work);
    const again = await RunFolder.create(folder, settings);
    expect((await again.stage('fit', { a: 1 }, work)).result).toEqual({ count: 1 });
    expect((await again.stage('fit', { a: 2 }, work)).result).toEqual({ count: 2 });
  });

  it('keeps no record of a stage that failed', async () => {
    const run = await RunFolder.create(folder, settings);
    await expect(run.stage('fit', 1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect((await RunFolder.open(folder)).finished('fit')).toBeUndefined();
  });

  it('refuses other settings, and says which', async () => {
    await RunFolder.create(folder, settings);
    await expect(RunFolder.create(folder, { ...settings, seed: 2 })).rejects.toThrow(/seed 1, not 2/);
  });

  it('says what to run when an earlier stage is missing', async () => {
    const run = await RunFolder.create(folder, settings);
    expect(() => run.need('pretrain', 'pretrain')).toThrow(/run: user-llm pretrain/);
  });

  it('is not opened where there is none, or a damaged one', async () => {
    await expect(RunFolder.open(folder)).rejects.toThrow(UsageError);
    await RunFolder.create(folder, settings);
    await writeFile(path.join(folder, 'run.json'), '{');
    await expect(RunFolder.open(folder)).rejects.toThrow(/damaged/);
  });

  it('clears what a run left and nothing else', async () => {
    await RunFolder.create(folder, settings);
    await writeFile(path.join(folder, 'mine.txt'), 'keep');
    await RunFolder.clear(folder);
    expect(await readdir(folder)).toEqual(['mine.txt']);
    expect(await readFile(path.join(folder, 'mine.txt'), 'utf8')).toBe('keep');
  });
});
