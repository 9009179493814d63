import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, rmSync, statfsSync, writeSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { smallDisk } from './small-disk.js';
import { smallLog } from './small-log.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
function userLlm(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args, '--quiet'], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  return { code: status, out: stdout, err: stderr };
}

const disk = smallDisk(64 * 2 ** 20);
if (!disk) console.warn('skipped: full disks take the right to mount one (root, on Linux)');
const systems = ['--systems', 'user-llm/cross-attention,text-prompt-10'];

(disk ? describe : describe.skip)('on a full disk', () => {
  const run = path.join(disk?.folder ?? '', 'run');
  const filling = path.join(disk?.folder ?? '', 'filling');
  afterAll(() => disk?.remove());

  /** Leaves so many bytes of the disk. */
  function fill(left: number): void {
    const { bavail, bsize } = statfsSync(disk!.folder);
    const file = openSync(filling, 'w');
    const block = Buffer.alloc(bsize);
    for (let i = 0; i < bavail - left / bsize; i++) writeSync(file, block);
    closeSync(file);
  }
  const free = (): void => rmSync(filling, { force: true });

  /** Names of files that are half of something, anywhere in the run. */
  const halves = (): string[] =>
    readdirSync(run, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(tmp|part|partial|old)$/.test(name));

  function refused(...args: string[]): void {
    const { code, out, err } = userLlm(...args);
    expect({ args, code, out, err }).toEqual({
      args,
      code: 2,
      out: '',
      err: expect.stringMatching(/^user-llm: .*the disk is full; free some space.*\n$/),
    });
    expect(err).not.toMatch(/ENOSPC|compact\(\)/);
    expect(halves()).toEqual([]);
  }

  let data: string;
  beforeAll(async () => {
    data = await smallLog();
  });

  it('every stage says so in one line, leaves no half of a file, and goes on when there is room', () => {
    fill(4096);
    refused('fit', '--data', data, '--out', run, '--minutes', '0.05');
    free();
    expect(userLlm('fit', '--data', data, '--out', run, '--minutes', '0.05').code).toBe(0);
    for (const [command, leaves, ...more] of [
      ['pretrain', 'encoder'],
      ['adapt', 'systems/user-llm-cross-attention', ...systems],
      ['encode', 'users/data.mdb', ...systems],
      ['eval', 'report.html', ...systems],
    ]) {
      fill(8192);
      refused(command, '--run', run, ...more);
      expect([command, existsSync(path.join(run, leaves))]).toEqual([command, false]);
      free();
      expect([command, userLlm(command, '--run', run, ...more).err]).toEqual([command, '']);
      expect(existsSync(path.join(run, leaves))).toBe(true);
    }
  }, 240_000);

  it('a report that does not fit leaves the old one', () => {
    const report = (): string[] => ['report.json', 'report.html'].map((name) => readFileSync(path.join(run, name), 'utf8'));
    const before = report();
    fill(8192);
    refused('eval', '--run', run, ...systems);
    free();
    expect(report()).toEqual(before);
  }, 60_000);
});
