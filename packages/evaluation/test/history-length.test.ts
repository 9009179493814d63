import { describe, expect, test } from '@jest/globals';
import { InvalidOptionError, measureHistoryLength, mix, popularity, Report, type HistoryLengthSystem } from '../src/index.js';
import { evaluate, leaveOneOut, nextItem } from '../src/index.js';
import { renderHtml } from '../src/report-html.js';
import { smallLog } from './support/logs.js';

const users = Array.from({ length: 40 }, (_, user) => user);
/** Finds the items of half of the users at 50 events, and of all at 200. */
const learner: HistoryLengthSystem<number> = {
  name: 'learner',
  rank: (user, events) => (events >= 200 || user % 2 === 0 ? 0 : -1),
};
/** Always the eleventh place: a miss at ten. */
const eleventh: HistoryLengthSystem<number> = { name: 'eleventh', rank: async () => 10 };
/** Reads no more than 100 events. */
const narrow: HistoryLengthSystem<number> = { name: 'narrow', rank: (_, events) => (events > 100 ? null : 3) };

describe('quality against history length', () => {
  test('is recall and NDCG of the same users at every length, with intervals over users', async () => {
    const rows = await measureHistoryLength({ lengths: [50, 200], users, systems: [learner, eleventh], seed: 1 });
    expect(rows.map(({ events, users }) => [events, users])).toEqual([
      [50, 40],
      [200, 40],
    ]);
    const [short, long] = rows.map(({ systems }) => systems[0]);
    expect([short['recall@10'], short['ndcg@10'], long['recall@10'], long['ndcg@10']]).toEqual([0.5, 0.5, 1, 1]);
    expect(short.ci95![0]).toBeLessThan(0.5);
    expect(short.ci95![1]).toBeGreaterThan(0.5);
    expect(long.ci95).toEqual([1, 1]);
    expect(rows[0].systems[1]).toMatchObject({ name: 'eleventh', 'recall@10': 0, 'ndcg@10': 0 });
  });

  test('has no figures where a history does not fit, and goes on with the next system', async () => {
    const [short, long] = await measureHistoryLength({ lengths: [100, 200], users, systems: [narrow, eleventh], seed: 1 });
    expect(short.systems[0]['recall@10']).toBe(1);
    expect(short.systems[0]['ndcg@10']).toBeCloseTo(1 / Math.log2(5), 12);
    expect(long.systems[0]).toEqual({ name: 'narrow', 'recall@10': null, 'ndcg@10': null, ci95: null });
    expect(long.systems[1]['recall@10']).toBe(0);
  });

  test('counts rankings as they are made, stops when it is told to, and needs users', async () => {
    const seen: [number, number][] = [];
    const stop = new AbortController();
    const run = measureHistoryLength({
      lengths: [50, 100],
      users,
      systems: [learner],
      seed: 1,
      signal: stop.signal,
      onProgress: ({ done, total }) => {
        seen.push([done, total]);
        if (done === 45) stop.abort();
      },
    });
    await expect(run).rejects.toThrow(/abort/);
    expect([seen[0], seen.at(-1)]).toEqual([
      [1, 80],
      [45, 80],
    ]);
    await expect(measureHistoryLength({ lengths: [50], users: [], systems: [learner], seed: 1 })).rejects.toThrow(
      InvalidOptionError,
    );
  });

  test('stands in the page of a report, what does not fit too', async () => {
    const report = await evaluate({ task: nextItem(leaveOneOut(smallLog())), systems: [popularity(), mix()], seed: 1 });
    const historyLength = await measureHistoryLength({ lengths: [100, 200], users, systems: [narrow, learner], seed: 1 });
    const { mkdtemp, readFile } = await import('node:fs/promises');
    const file = `${await mkdtemp('/tmp/history-length-')}/report.html`;
    await Report.fromJSON(report.with({ historyLength }).toJSON()).writeHtml(file);
    const page = await readFile(file, 'utf8');
    expect(page).toContain('Does a longer history help?');
    expect(page).toContain('does not fit');
    expect(page).toContain('1.000 – 1.000');
  });

  test('draws every system in a colour that there is, and does not say of one that was not measured that it does not fit', async () => {
    const systems = Array.from({ length: 8 }, (_, i): HistoryLengthSystem<number> => ({ name: `system ${i}`, rank: () => i }));
    const [short, long] = await measureHistoryLength({ lengths: [100, 200], users, systems, seed: 1 });
    const report = await evaluate({ task: nextItem(leaveOneOut(smallLog())), systems: [popularity()], seed: 1 });
    const historyLength = [short, { ...long, systems: long.systems.slice(1) }];
    const page = renderHtml(report.with({ historyLength }).toJSON());
    const drawn = [...page.matchAll(/<g class="c(\d+)">/g)].map(([, colour]) => Number(colour));
    expect(drawn).toHaveLength(16); // for wide screens and for narrow ones
    expect(Math.max(...drawn)).toBe(5);
    expect(page).not.toContain('does not fit');
  });
});
