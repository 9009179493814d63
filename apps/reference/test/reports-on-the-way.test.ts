import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, jest } from '@jest/globals';
import type { Outcome, ReportData } from '@user-llm/evaluation';
import { ConsoleOutput } from '../src/run/console-output.js';
import { evaluateAll } from '../src/stages/evaluate.js';
import { runAll } from '../src/stages/poc.js';
import { Workspace } from '../src/workspace.js';
import { smallLog } from './small-log.js';

interface Spent {
  readonly seconds: number;
}

beforeAll(() => void jest.spyOn(process.stdout, 'write').mockReturnValue(true));
afterAll(() => void jest.restoreAllMocks());

it('a run reports on each system as soon as it is finished, and says which are not', async () => {
  const output = new ConsoleOutput({ json: false, quiet: true });
  const titles: string[] = [];
  jest.spyOn(output, 'progress').mockImplementation((stage, title) => {
    if (stage === 'eval') titles.push(title);
    return { update: () => undefined, done: () => undefined };
  });
  const workspace = await Workspace.create(
    {
      out: path.join(await mkdtemp(path.join(os.tmpdir(), 'reports-')), 'run'),
      output,
      signal: new AbortController().signal,
      systems: ['text-summary', 'text-prompt-10'],
      threads: 1,
    },
    { data: await smallLog({ users: 12, items: 20, events: 8 }), seed: 1, minutes: 0.1, examples: 64 },
  );
  const reports: ReportData[] = [];
  await runAll(workspace, { onReport: (report) => void reports.push(report.toJSON()) });
  expect(reports.map(({ finished, unfinished }) => [finished, unfinished])).toEqual([
    [false, ['text-prompt-10']],
    [true, undefined],
  ]);
  // A system on the way is asked alone, and for a report on it with all that count.
  const alone = ['evaluating text prompt, summary by a template', 'evaluating text prompt, last 10'];
  expect(titles).toEqual([alone[0], 'evaluating', alone[1], 'evaluating']);
  const models = reports.map(({ systems }) =>
    systems.filter(({ name, task }) => name.startsWith('text-') && task === 'next-item').map(({ name }) => name),
  );
  expect(models).toEqual([['text-summary'], ['text-summary', 'text-prompt-10']]);
  // What was answered on the way is not asked again.
  const [first, last] = reports.map(({ systems }) => systems.find(({ name }) => name === 'text-summary'));
  expect(last?.latencyMs).toEqual(first?.latencyMs);
  for (const { training, examplesPerSystem, sampleUsers } of reports) {
    expect(examplesPerSystem).toBe(64);
    // Eighty are wanted, and there are no more.
    expect(sampleUsers).toBe(12);
    for (const { name, examplesSeen } of training!) if (name !== 'encoder') expect(examplesSeen).toBe(64);
  }
  // The whole run is all of it, what was answered on the way included.
  const { stages } = JSON.parse(await readFile(workspace.run.path('run.json'), 'utf8')) as Record<
    'stages',
    Record<string, Spent>
  >;
  const trained = Object.values(stages).reduce((sum, { seconds }) => sum + seconds, 0);
  const file = workspace.run.path('outcomes', 'text-summary.next-item.json');
  const { seconds, outcome } = JSON.parse(await readFile(file, 'utf8')) as Spent & Record<'outcome', Outcome>;
  expect(1000 * seconds).toBeGreaterThan(outcome.latencyMs.reduce((sum, ms) => sum + ms, 0));
  expect(reports.at(-1)!.durationSeconds).toBeGreaterThan(trained + seconds);
  const again = await evaluateAll(workspace);
  expect(again.toJSON().durationSeconds).toBeGreaterThan(trained + seconds);
}, 240_000);
