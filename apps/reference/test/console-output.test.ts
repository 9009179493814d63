import { spawnSync } from 'node:child_process';
import { describe, expect, it, test } from '@jest/globals';
import { counted } from '../src/run/console-output.js';

const module = new URL('../dist/run/console-output.js', import.meta.url).href;

describe('progress on a terminal', () => {
  it.each(['output.close()', 'bar.done()'])(
    'lets the process end by %s',
    (end) => {
      const script = `
      import { ConsoleOutput } from '${module}';
      process.stderr.isTTY = true;
      const output = new ConsoleOutput({ json: false, quiet: false });
      const bar = output.progress('fetch', 'fetching a model');
      bar.update({ fraction: 0.5 });
      ${end};`;
      const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
        timeout: 20_000,
        env: { ...process.env, NODE_OPTIONS: '' },
      });
      expect({ status, signal }).toEqual({ status: 0, signal: null });
    },
    30_000,
  );
});

test('progress is between 0 and 100 %, however much later than expected a stage is', () => {
  const script = `
  import { ConsoleOutput } from '${module}';
  const json = new ConsoleOutput({ json: true, quiet: false }).progress('adapt', 'training');
  json.update({ fraction: -0.65, secondsLeft: 7 });
  new ConsoleOutput({ json: true, quiet: false }).progress('adapt', 'training').update({ fraction: 1.2 });`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 20_000 });
  const fractions = stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { fraction: number }).fraction);
  expect(fractions).toEqual([0, 1]);
}, 30_000);

test('of one thing there is one', () => {
  expect([counted(0, 'step'), counted(1, 'step'), counted(0.5, 'minute')]).toEqual(['0 steps', '1 step', '0.5 minutes']);
});
