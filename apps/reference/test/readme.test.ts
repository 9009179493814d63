import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import { smallLog } from './small-log.js';

it("the README's code runs, on a small log and a short budget", async () => {
  const home = fileURLToPath(new URL('..', import.meta.url));
  const readme = await readFile(path.join(home, 'README.md'), 'utf8');
  const [, code] = /```ts\n([\s\S]*?)```/.exec(readme)!;
  const run = path.join(await mkdtemp(path.join(os.tmpdir(), 'readme-')), 'run');
  const small = code
    .replace("'./ratings.csv'", JSON.stringify(await smallLog()))
    .replace("'./run'", JSON.stringify(run))
    .replace('minutes: 10', 'minutes: 0.2');
  expect(small).not.toBe(code);
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', small], {
    cwd: home,
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout).toContain('report.json');
}, 120_000);
