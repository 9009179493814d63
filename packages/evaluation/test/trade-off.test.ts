import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { ReportWriteError, renderTradeOffs, writeTradeOffs } from '../src/index.js';
import type { TradeOffPage, TradeOffPoint } from '../src/index.js';

const point = (series: string, bytes: number, value: number): TradeOffPoint => ({
  name: `${series} at ${bytes}`,
  series,
  value,
  interval: [value - 0.02, value + 0.02],
  costs: { bytes, ms: bytes / 1000 },
});
const page: TradeOffPage = {
  title: 'What width buys on <films>',
  summary: ['Small is enough.', 'Large is not better.'],
  facts: [['Seed', '1']],
  sections: [
    {
      title: 'The model',
      text: 'Over 200 users.',
      quality: 'recall@10',
      costs: [
        { key: 'bytes', label: 'bytes per user' },
        { key: 'ms', label: 'read, ms' },
      ],
      points: [point('1 token', 128, 0.1), point('1 token', 256, 0.12), point('4 tokens', 512, 0.13)],
      references: [{ name: 'popularity', value: 0.06 }],
      table: { head: ['', 'recall@10'], rows: [['1 token at 128', '0.1000']] },
    },
  ],
  method: ['One seed.'],
};

const count = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0;
/** Horizontal places of the marks of the first plot, in the order of the points. */
const marks = (html: string): number[] =>
  [...html.split('</svg>')[0].matchAll(/<circle class="dot" cx="([\d.]+)"/g)].map(([, x]) => Number(x));

describe('a page of trade-offs', () => {
  const html = renderTradeOffs(page);

  test('draws every point with its interval against every cost, a colour for each series', () => {
    expect(count(html, /<svg /g)).toBe(2);
    expect(count(html, /<circle class="dot"/g)).toBe(2 * 3);
    expect(count(html, /<line class="interval"/g)).toBe(2 * 3);
    expect(count(html, /<line class="reference"/g)).toBe(2);
    expect(html).toContain('1 token at 128: 0.1000, 95 % interval 0.0800 to 0.1200, at 128');
    expect(html).toMatch(/<li class="c1"><i><\/i>4 tokens/);
  });

  test('has a logarithmic scale: a doubled cost is the same step anywhere', () => {
    const of = { ...page.sections[0], points: [128, 256, 512].map((bytes) => point('one', bytes, 0.1)) };
    const [a, b, c] = marks(renderTradeOffs({ ...page, sections: [of] }));
    expect(b - a).toBeGreaterThan(10);
    expect(Math.abs(c - b - (b - a))).toBeLessThan(0.2);
  });

  test('says what matters first, and loads nothing', () => {
    expect(html).toContain('<p class="lead">Small is enough.</p>');
    expect(html).toContain('<li>Large is not better.</li>');
    expect(html).toContain('What width buys on &#60;films&#62;');
    expect(html).not.toMatch(/<script|<link|https?:/);
    expect(html).not.toContain('Simulated data');
    expect(renderTradeOffs({ ...page, simulated: true })).toContain('Simulated data');
  });

  test('leaves out a point without a cost above zero, which a logarithmic scale cannot hold', () => {
    const free = { ...page.sections[0], points: [point('1 token', 128, 0.1), point('1 token', 0, 0.2)] };
    expect(count(renderTradeOffs({ ...page, sections: [free] }), /<circle class="dot"/g)).toBe(2);
  });

  test('is written whole or not at all', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'trade-off-'));
    const file = path.join(folder, 'sweep.html');
    await writeTradeOffs(file, page);
    expect(await readFile(file, 'utf8')).toBe(html);
    const nowhere = await writeTradeOffs(path.join(folder, 'none', 'sweep.html'), page).catch((error: unknown) => error);
    expect(nowhere).toBeInstanceOf(ReportWriteError);
  });
});
