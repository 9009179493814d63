import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  evaluate,
  favouriteGenre,
  leaveOneOut,
  mix,
  mostFrequentGenre,
  nextItem,
  popularity,
  Report,
  ReportWriteError,
  stillFalling,
} from '../src/index.js';
import type { Curve, Outcome, ReportData, ScalingRow, System } from '../src/index.js';
import { renderHtml } from '../src/report-html.js';
import { shortfall } from '../src/summary.js';
import { smallLog } from './support/logs.js';

const log = smallLog();
const list = (name: string, better: number, kind: System['kind'] = 'system'): System => ({
  name,
  kind,
  rank: ({ history, userIndex, candidates, exclude }) => {
    const truth = log.itemIds[log.items[history.to]];
    const others = candidates.ids.filter((id, i) => id !== truth && !exclude.has(i));
    const ids = userIndex % 10 < better ? [truth, ...others] : others.slice(0, 10).concat(truth);
    return { items: ids.map((id) => ({ id, score: 0 })), cost: { tokens: 12, flops: 2e9 } };
  },
  notes: ['Beam search of width 50.'],
  examplesSeen: 1234,
});
const unfit: System = {
  name: 'text-prompt-50',
  kind: 'baseline',
  rank: () => ({ doesNotFit: 'the prompt has 700 tokens, the model reads 512' }),
};
const scalingAt = (ratio: number): ScalingRow[] =>
  [50, 100, 200].map((events) => ({
    events,
    textPrompt: { tokens: events * 14, p50Ms: ratio * 4, p95Ms: 300 },
    userLlm: { tokens: 12, p50Ms: 4, p95Ms: 5 },
    ratio,
  }));
const falling: Curve = {
  name: 'user-llm/cross-attention',
  kind: 'validation',
  points: [5, 4, 3, 2.5, 2].map((loss, i) => ({ step: i, seconds: i * 10, loss })),
};
const flat: Curve = {
  name: 'encoder',
  kind: 'validation',
  points: [5, 3, 2, 2.1, 2.05].map((loss, i) => ({ step: i, seconds: i * 10, loss })),
};

async function reportOf(...systems: System[]): Promise<Report> {
  const task = [nextItem(leaveOneOut(log)), favouriteGenre(log)];
  return evaluate({
    task,
    systems: [popularity(), mix(), mostFrequentGenre(), ...systems],
    seed: 1,
    sample: { users: 20, systems: ({ name }) => /^(user|text)/.test(name) },
  });
}

test('a sample that is all test users is told as what it is', async () => {
  const [fast, slow] = [popularity(), list('user-llm/cross-attention', 9)];
  const page = async (users: number): Promise<string> =>
    renderHtml(
      (
        await evaluate({
          task: nextItem(leaveOneOut(log)),
          systems: [fast, slow],
          seed: 1,
          sample: { users, systems: [slow.name] },
        })
      ).toJSON(),
    );
  const everybody = leaveOneOut(log).test.length;
  for (const users of [everybody, everybody + 20]) {
    const html = await page(users);
    expect(html).toContain(`Over ${everybody} test users.`);
    expect(html).not.toContain('cannot rank for everybody');
    expect(html).not.toContain('Not to be compared');
  }
  expect(await page(everybody - 1)).toContain('Not to be compared');
});

describe('a report including systems that were asked elsewhere', () => {
  const [reader, text] = [list('user-llm/cross-attention', 9), list('text-prompt-50', 5, 'baseline')];

  test('is the report of one evaluation of them all', async () => {
    const elsewhere = (await reportOf(text)).outcomes.filter(({ system }) => system === text.name);
    const joined = (await reportOf(reader)).including(elsewhere);
    const without = ({ systems }: Report): unknown => systems.map(({ latencyMs: _, fitSeconds: __, ...row }) => row);
    expect(without(joined)).toEqual(without(await reportOf(reader, text)));
    expect(joined.summary[0]).toContain('more often than the text prompt of 50 events');
  });
  test('keeps its own answers of a system that both have', async () => {
    const own = await reportOf(list('user-llm/cross-attention', 9));
    const other = await reportOf(list('user-llm/cross-attention', 2));
    expect(own.including(other.outcomes).systems).toEqual(own.systems);
  });
  test('refuses answers about other data or to another depth, and what a file does not hold', async () => {
    const report = await reportOf(reader);
    const [{ ...outcome }] = (await reportOf(text)).outcomes.filter(({ system }) => system === text.name);
    expect(() => report.including([{ ...outcome, taskHash: 'other' }])).toThrow(
      '"text-prompt-50" answered next-item on other data or to another depth',
    );
    expect(() => report.including([{ ...outcome, depth: 10 }])).toThrow('evaluate it again');
    expect(() => Report.fromJSON(report.toJSON()).including([outcome])).toThrow('read from a file');
  });
});

describe('the first sentence of the summary', () => {
  const first = async (scaling: ScalingRow[], ...systems: System[]): Promise<string> =>
    (await reportOf(...systems)).with({ scaling }).summary[0];
  const [strong, weak] = [list('user-llm/cross-attention', 9), list('user-llm/soft-prompt', 2)];
  const text = list('text-prompt-50', 5, 'baseline');

  test('says so where a User-LLM loses to the text prompt of 50 events', async () => {
    expect(await first(scalingAt(30), strong, weak, text)).toMatch(
      /^user-llm\/soft-prompt \(\.\d+\) did not beat the text prompt of 50 events .* user-llm\/cross-attention \(\.\d+\) did\.$/,
    );
  });
  test('says so where the shorter text prompt beats them all', async () => {
    const short = list('text-prompt-10', 8, 'baseline');
    expect(await first(scalingAt(30), weak, text, short)).toMatch(
      /; the text prompt of 10 events did better than all of them \(\.\d+\)\.$/,
    );
    expect(await first(scalingAt(30), strong, text, short)).not.toContain('10 events');
  });
  test('says so where the ratio at 200 events is below 20', async () => {
    expect(await first(scalingAt(12.34), strong, text)).toBe(
      'At 200 events a request with the text prompt takes only 12.3 times as long as one with the embedding, where 20 was the aim.',
    );
  });
  test('says both where both hold', async () => {
    expect(await first(scalingAt(3), weak, text)).toMatch(
      /^user-llm\/soft-prompt .* did not beat .*; at 200 events .* only 3\.0 times/,
    );
  });
  test('says what was reached where both aims are met', async () => {
    expect(await first(scalingAt(25), strong, text)).toMatch(
      /^user-llm\/cross-attention .* more often than the text prompt .*; at 200 events .* takes 25 times as long/,
    );
  });
  test('says so where a User-LLM loses to a baseline that counts, whatever it wins elsewhere', async () => {
    // Each user prefers another of the three genres: never the first of these.
    const reader: System = {
      ...strong,
      classify: ({ labels, userIndex }) => ({ label: labels[(userIndex + 1) % labels.length] }),
    };
    const report = (await reportOf(reader, text)).with({ scaling: scalingAt(25) });
    expect(report.summary[0]).toMatch(
      /^Of the favourite genre, the best baseline, most-frequent-genre \(accuracy \d?\.\d+\), knows more than user-llm\/cross-attention \(\d?\.\d+\)\.$/,
    );
    expect(report.summary[1]).toMatch(/^user-llm\/cross-attention .* more often than the text prompt/);
    const [worse, better] = ['is worse than', 'is better than'].map((verdict) =>
      report.summary.findIndex((line) => line.includes(verdict)),
    );
    expect(worse).toBeGreaterThanOrEqual(0);
    expect(worse).toBeLessThan(better === -1 ? Infinity : better);
    expect(shortfall(report.toJSON())).toBe(true);
  });
  test('tells a loss by the figures over the users that it is of, not by those of another system’s sample', () => {
    // Of 100 users; the first ten are the sample of a slower system, and not like the others.
    const outcome = (system: string, kind: System['kind'] & string, hit: (user: number) => boolean, users = 100): Outcome => {
      const ranks = Array.from({ length: users }, (_, user) => (hit(user) ? 0 : -1));
      return {
        system,
        kind,
        task: 'next-item',
        taskHash: 'one',
        depth: 100,
        sampled: users < 100,
        users: ranks.map((_, user) => user),
        filteredRanks: ranks,
        unfilteredRanks: ranks,
        latencyMs: ranks.map(() => 1),
        tokensPerRequest: null,
        flopsPerRequest: null,
      };
    };
    const outcomes = [
      outcome('counts', 'baseline', (user) => user < 3 || user >= 40),
      outcome('user-llm/cross-attention', 'system', (user) => user < 9 || user >= 79),
      outcome('text-prompt-50', 'system', () => false, 10),
    ];
    const report = Report.of(outcomes, [], { seed: 1, depth: 100 });
    expect(report.summary[0]).toBe(
      'Of the next item, the best baseline, counts (recall@10 .6300), knows more than user-llm/cross-attention (.3000).',
    );
    expect(report.summary).toContainEqual(
      expect.stringMatching(/^user-llm.* is worse than the best baseline, counts: recall@10 -.3300 .* 100 users\)/),
    );
  });
  test('says that it is not known where the text prompt does not fit', async () => {
    const report = (await reportOf(strong, unfit)).with({ scaling: scalingAt(25) });
    expect(report.summary[0]).toMatch(
      /^Whether User-LLM beats the text prompt of 50 events is not known: the prompt has 700 tokens/,
    );
    expect(report.summary.at(-1)).toMatch(/^text-prompt-50 has no figures on next-item/);
  });
  test('names the best system where there is no User-LLM', async () => {
    expect((await reportOf()).summary[0]).toMatch(/ranks best of 2 systems/);
    // None that has its equals.
    const [one, other] = [list('one', 10), list('other', 10)];
    expect((await reportOf(one, other)).summary[0]).toMatch(/^one and other rank best of 4 systems: recall@10 /);
  });
});

test('the summary names models whose validation loss was still falling, and simulated data', async () => {
  const report = (await reportOf()).with({
    dataset: { name: 'film service', simulated: true, users: 30, items: 20, events: 330 },
    curves: [falling, flat],
    training: [{ name: 'user-llm/soft-prompt', stillFalling: true }],
  });
  expect(report.summary.join(' ')).toContain('still falling for user-llm/cross-attention, user-llm/soft-prompt:');
  expect(report.summary.join(' ')).not.toContain('encoder');
  expect(report.summary.join(' ')).toContain('The data are simulated ("film service")');
  expect([stillFalling(falling.points), stillFalling(flat.points), stillFalling(falling.points.slice(0, 1))]).toEqual([
    true,
    false,
    false,
  ]);
});

describe('files', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'report-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function full(): Promise<Report> {
    const systems = [list('encoder', 6), list('text-prompt-50', 5, 'baseline'), list('user-llm/cross-attention', 9)];
    return (await reportOf(...systems)).with({
      dataset: { name: '<b>films</b> & "more"', simulated: true, users: 30, items: 20, events: 330, sha256: 'ab'.repeat(32) },
      machine: 'one machine',
      durationSeconds: 300,
      peakRssBytes: 2e9,
      scaling: scalingAt(25),
      curves: [falling, flat, { ...falling, kind: 'training' }],
      training: [{ name: 'encoder', seconds: 60, steps: 100, examplesSeen: 5000, parameters: 40_000 }],
      further: { kept: true },
    });
  }

  test('report.json holds the figures under the documented names, and can be read back', async () => {
    const report = await full();
    await report.writeJson(path.join(folder, 'report.json'));
    const data = JSON.parse(await readFile(path.join(folder, 'report.json'), 'utf8')) as ReportData;
    expect(Object.keys(data)).toEqual(
      expect.arrayContaining([
        'dataset',
        'seed',
        'machine',
        'durationSeconds',
        'peakRssBytes',
        'systems',
        'scaling',
        'summary',
        'further',
      ]),
    );
    expect(Object.keys(data.dataset ?? {})).toEqual(
      expect.arrayContaining(['name', 'users', 'items', 'events', 'sha256', 'split', 'ties']),
    );
    const row = data.systems.find(({ name, task }) => name === 'user-llm/cross-attention' && task === 'next-item');
    expect(row).toMatchObject({
      filtered: {
        'recall@1': expect.any(Number),
        'recall@5': expect.any(Number),
        'recall@10': expect.any(Number),
        'ndcg@10': expect.any(Number),
        mrr: expect.any(Number),
      },
      unfiltered: { 'recall@10': expect.any(Number) },
      ci95: { 'recall@10': [expect.any(Number), expect.any(Number)] },
      vs: { baseline: expect.any(String), delta: expect.any(Number), p: expect.any(Number) },
      latencyMs: { p50: expect.any(Number), p95: expect.any(Number) },
      tokensPerRequest: 12,
      flopsPerRequest: 2e9,
      users: 20,
      examplesSeen: 1234,
    });
    expect(data.systems.find(({ task }) => task === 'favourite-genre')?.accuracy).toEqual(expect.any(Number));
    expect(Report.fromJSON(data).toJSON()).toEqual(data);
  });

  test('report.html is one page that loads nothing and runs nothing, its text escaped', async () => {
    await (await full()).writeHtml(path.join(folder, 'report.html'));
    const page = await readFile(path.join(folder, 'report.html'), 'utf8');
    expect(page).toMatch(/^<!doctype html>/);
    expect(page).not.toMatch(/<script|<link|<img|@import|url\(|https?:/);
    expect(page).toContain('&#60;b&#62;films&#60;/b&#62; &#38; &#34;more&#34;');
    expect(page).not.toContain('<b>films');
    expect(page).toContain('Simulated data');
    for (const title of [
      'In short',
      'Which item comes next?',
      'Which genre is the favourite?',
      'How long does a longer history take?',
      'What does a request cost?',
      'How did they learn?',
      'How it was measured',
    ]) {
      expect(page).toContain(`<h2>${title}</h2>`);
    }
    expect(page.match(/<svg [^>]*role="img"/g)?.length).toBe(8); // two bar plots and the scaling plot in two widths, two training panels
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
    const paired = page.replace(/<[^>]*\/>|<meta [^>]*>/g, '');
    const opened = [...paired.matchAll(/<([a-z0-9]+)[ >]/g)].map((match) => match[1]);
    const closed = [...paired.matchAll(/<\/([a-z0-9]+)>/g)].map((match) => match[1]);
    expect([...opened].sort()).toEqual([...closed].sort());
  });

  test('a report with nothing but baselines is a page, too', async () => {
    const file = path.join(folder, 'small.html');
    await (await evaluate({ task: nextItem(leaveOneOut(log)), systems: [popularity()], seed: 1 })).writeHtml(file);
    expect(await readFile(file, 'utf8')).not.toMatch(/NaN|undefined|How did they learn/);
  });

  test('a file that cannot be written leaves nothing behind, and the error says what to do', async () => {
    const report = await reportOf();
    const error: unknown = await report.writeHtml(path.join(folder, 'absent', 'report.html')).catch((thrown: unknown) => thrown);
    expect(ReportWriteError.isInstance(error) && error.code).toBe('ENOENT');
    expect(String(error)).toContain('its folder does not exist; create it');
    const taken = path.join(folder, 'taken');
    await writeFile(path.join(folder, 'older.json'), 'older');
    await mkdir(taken);
    await expect(report.writeJson(taken)).rejects.toThrow('Cannot write');
    expect(await readFile(path.join(folder, 'older.json'), 'utf8')).toBe('older');
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('rows are flat, for console.table, and comparable: on the sample', async () => {
    const rows = (await full()).rows;
    expect(rows.filter((row) => row.task === 'next-item').map((row) => row.users)).toEqual([20, 20, 20, 20, 20]);
    expect(rows[0]).toMatchObject({
      system: 'popularity',
      task: 'next-item',
      'recall@10': expect.any(Number),
      'p50 ms': expect.any(Number),
    });
  });
});

test('the page and the summary say the same of a loss that the training record knows more about', async () => {
  const training = [{ name: falling.name, stillFalling: false }];
  const data = (await reportOf()).with({ curves: [falling], training }).toJSON();
  expect(data.summary.join(' ')).not.toContain('still falling');
  expect(renderHtml(data)).not.toContain('still falling');
  const [record] = training;
  const known = (await reportOf()).with({
    curves: [{ ...flat, name: record.name }],
    training: [{ ...record, stillFalling: true }],
  });
  expect(renderHtml(known.toJSON())).toContain('validation, still falling');
});

test('a curve of very many steps is drawn', async () => {
  const points = Array.from({ length: 200_000 }, (_, i) => ({ step: i, seconds: i, loss: 1 / (i + 1) }));
  expect(renderHtml((await reportOf()).with({ curves: [{ name: 'encoder', points }] }).toJSON())).toContain(
    'Loss of encoder over time',
  );
});

test('the page says what a cache of text prompts costs, where that was measured', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'report-'));
  const file = path.join(folder, 'report.html');
  const report = await reportOf();
  const spread = { p50: 12.5, p95: 20 };
  const promptCache = {
    system: 'text-prompt-50+cache',
    users: 10,
    tokensKept: 650,
    tokensPerRequest: 6,
    bytesPerUser: 29_952_000,
    writeMs: 800,
    latencyMs: spread,
    withoutCacheMs: { p50: 700, p95: 900 },
    topShared: 1,
  };
  await report.writeHtml(file);
  expect(await readFile(file, 'utf8')).not.toContain('cached');
  await report.with({ promptCache }).writeHtml(file);
  const page = await readFile(file, 'utf8');
  for (const part of ['What if text prompts were cached?', 'text-prompt-50+cache', '650', '100 % of the first ten'])
    expect(page).toContain(part);
  await rm(folder, { recursive: true });
});
