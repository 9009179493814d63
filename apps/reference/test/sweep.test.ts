import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { UsageError } from '../src/errors.js';
import { gridOf, sweepBudget } from '../src/sweep/grid.js';
import { smallLog } from './small-log.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const userLlm = (...args: string[]): { code: number | null; out: string; err: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  return { code: status, out: stdout, err: stderr };
};

describe('a grid', () => {
  it('is every width with every number of tokens, once', () => {
    const sizes = gridOf('32,16,32', ' 4, 1').map(({ size }) => [size.width, size.userTokens]);
    expect(sizes).toEqual([
      [16, 1],
      [16, 4],
      [32, 1],
      [32, 4],
    ]);
    expect(new Set(gridOf('16,32', '1,4').map(({ spec }) => spec.name)).size).toBe(4);
  });

  it.each([
    ['18', '1', /--widths 18: '18' is no multiple of 4/],
    ['16,', '1', /--widths 16,: '' is no multiple of 4/],
    ['16', '0', /--tokens 0: '0' is no whole number above zero/],
    ['16', 'many', /--tokens many/],
  ])('of widths %j and tokens %j is refused', (widths, tokens, message) => {
    expect(() => gridOf(widths, tokens)).toThrow(UsageError);
    expect(() => gridOf(widths, tokens)).toThrow(message);
  });

  it('gives every cell the same time, half of it for the encoder', () => {
    expect(sweepBudget(2)).toEqual({ pretrain: 60, adapt: 60, language: 60 });
  });
});

interface Cell {
  name: string;
  width: number;
  userTokens: number;
  costs: { embeddingBytes: number; storeBytes: number; userStateBytes: number; readMs: number; encodeMs: number };
  filtered: Record<string, number>;
  ci95: Record<string, [number, number]>;
  againstLargestCell: { delta: number } | null;
  users: number;
}

describe('user-llm sweep', () => {
  it('refuses a grid that is none before anything is written', async () => {
    const run = path.join(await mkdtemp(path.join(os.tmpdir(), 'sweep-')), 'run');
    const { code, err } = userLlm('sweep', '--out', run, '--widths', '18');
    expect(code).toBe(2);
    expect(err).toContain("'18' is no multiple of 4");
    expect(existsSync(run)).toBe(false);
  });

  it('measures every cell, and keeps finished ones when the grid grows', async () => {
    const run = path.join(await mkdtemp(path.join(os.tmpdir(), 'sweep-')), 'run');
    const args = ['sweep', '--data', await smallLog(), '--out', run, '--widths', '8', '--cell-minutes', '0.03', '--users', '12'];
    const stages = async (): Promise<Record<string, { finishedAt: string }>> =>
      (JSON.parse(await readFile(path.join(run, 'run.json'), 'utf8')) as { stages: Record<string, { finishedAt: string }> })
        .stages;
    const first = userLlm(...args, '--tokens', '1', '--json');
    expect(first.err).toBe('');
    expect(first.code).toBe(0);
    const events = first.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string });
    expect(events.at(-1)).toMatchObject({
      event: 'sweep',
      summary: expect.arrayContaining([expect.stringMatching(/^There is one cell, .* width 8, 1 user token: recall@10/)]),
      html: path.join(run, 'sweep.html'),
    });
    expect(first.out).not.toContain('Every smaller cell');
    const before = await stages();

    const { code, out, err } = userLlm(...args, '--tokens', '1,3', '--quiet');
    expect(err).toBe('');
    expect(code).toBe(0);
    expect(out).toContain('width 8, 3 user tokens');
    const after = await stages();
    for (const [name, { finishedAt }] of Object.entries(before)) expect(after[name].finishedAt).toBe(finishedAt);
    expect(Object.keys(after).length - Object.keys(before).length).toBe(2);

    const { cells, encoders } = JSON.parse(await readFile(path.join(run, 'sweep.json'), 'utf8')) as {
      cells: Cell[];
      encoders: { width: number; users: number }[];
    };
    expect(cells.map(({ userTokens }) => userTokens)).toEqual([1, 3]);
    expect(encoders).toMatchObject([{ width: 8, users: 30 }]);
    for (const { width, userTokens, costs, users, filtered, ci95 } of cells) {
      expect(costs.embeddingBytes).toBe(4 * width * userTokens);
      expect(costs.storeBytes).toBeGreaterThan(costs.embeddingBytes);
      for (const cost of Object.values(costs)) expect(cost).toBeGreaterThan(0);
      expect(users).toBe(12);
      const [low, high] = ci95['recall@10'];
      expect(filtered['recall@10']).toBeGreaterThanOrEqual(low);
      expect(filtered['recall@10']).toBeLessThanOrEqual(high);
    }
    // Keys and values grow with the tokens, not with their width.
    expect(cells[1].costs.userStateBytes).toBe(3 * cells[0].costs.userStateBytes);
    expect(cells.map(({ againstLargestCell }) => againstLargestCell === null)).toEqual([false, true]);
    const html = await readFile(path.join(run, 'sweep.html'), 'utf8');
    expect(html).toContain('width 8, 3 user tokens');
    expect(html).not.toContain(os.tmpdir());
  }, 300_000);
});
