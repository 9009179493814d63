import { spawnSync } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';

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
