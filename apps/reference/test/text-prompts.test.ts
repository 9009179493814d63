import { existsSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, jest, test } from '@jest/globals';
import { LanguageModel } from '@user-llm/cross-attention';
import { openStore } from '@user-llm/embedding-store';
import { ConsoleOutput } from '../src/run/console-output.js';
import { prepareSystem } from '../src/stages/adapt.js';
import { prepareLanguageModel } from '../src/stages/language.js';
import { runAll } from '../src/stages/poc.js';
import { pretrain } from '../src/stages/pretrain.js';
import { Workspace, type GivenSettings } from '../src/workspace.js';
import { smallLog } from './small-log.js';
import { tinyModel } from './tiny-model.js';

jest.setTimeout(120_000);
jest.spyOn(process.stdout, 'write').mockReturnValue(true);

const main = 'user-llm/cross-attention';

async function open(systems: string[], given: Partial<GivenSettings>): Promise<Workspace> {
  const out = path.join(await mkdtemp(path.join(os.tmpdir(), 'text-')), 'run');
  const output = new ConsoleOutput({ json: true, quiet: true });
  const { signal } = new AbortController();
  return Workspace.create({ out, output, signal, systems, threads: 1 }, { minutes: 0.03, seed: 1, encoderSteps: 2, ...given });
}

test('a text prompt that is trained stays so, whatever the main system took that was trained after it', async () => {
  const workspace = await open(['text-prompt-10'], { data: await smallLog() });
  await pretrain(workspace);
  await prepareLanguageModel(workspace);
  const trained = await prepareSystem(workspace, workspace.systems[0]);
  await workspace.run.stage(`adapt ${main}`, 'later', () => Promise.resolve({ trainingSeconds: 3 }));
  expect(await prepareSystem(workspace, workspace.systems[0])).toBe(trained);
});

test('titles that are too long for the context are no figure of that text prompt; a summary is written from those that fit', async () => {
  const data = await smallLog({ users: 12, items: 60, events: 60, title: 'the one and only film' });
  const given = { data, ranking: 'retrieve', llm: await tinyModel(), examples: 64, users: 4 } as const;
  const workspace = await open([main, 'text-prompt-50', 'text-summary-written'], given);
  await runAll(workspace, {});
  const report = JSON.parse(await readFile(workspace.run.path('report.json'), 'utf8')) as {
    systems: { name: string; filtered: { 'recall@10': number | null }; doesNotFit?: string }[];
    training: { name: string }[];
  };
  const of = (name: string) => report.systems.find((row) => row.name === name)!;
  expect(of('text-prompt-50').doesNotFit).toMatch(/^an example of \d+ tokens does not fit into the model's context of 512/);
  expect(of('text-prompt-50').filtered['recall@10']).toBeNull();
  for (const name of [main, 'text-summary-written']) expect(of(name).filtered['recall@10']).toEqual(expect.any(Number));
  expect(report.training.map(({ name }) => name)).toEqual(['encoder', main, 'text-summary-written']);
});

test('behind a blind prefix the last tokens of a prompt read the user, in training and when asked', async () => {
  const given = { data: await smallLog({ users: 12 }), llm: await tinyModel(), examples: 16, users: 4 } as const;
  const workspace = await open([`${main}@blind`], given);
  await runAll(workspace, {});
  const report = JSON.parse(await readFile(workspace.run.path('report.json'), 'utf8')) as {
    systems: { name: string; users: number }[];
  };
  expect(report.systems.find(({ name }) => name === `${main}@blind`)?.users).toBe(4);
  const served = await LanguageModel.open(workspace.run.path(`systems/${main.replace('/', '-')}@blind`));
  const { keysAndValues } = await served.prefix({ messages: [{ role: 'user', content: 'What will I watch next?' }] });
  expect(keysAndValues.size).toBeGreaterThan(0);
  await served.dispose();
});

test('users whose latency is measured are in the store once, as everybody, and as nobody cut short', async () => {
  const more = Array.from({ length: 203 }, (_, step) => `longest,film ${step % 40},5,${1_600_000_000 + step * 3600}`);
  const data = await smallLog({ users: 12, more });
  const workspace = await open([main, 'text-prompt-50'], { data, llm: await tinyModel(), examples: 64, users: 4 });
  await runAll(workspace, {});
  const report = JSON.parse(await readFile(workspace.run.path('report.json'), 'utf8')) as { scaling: { events: number }[] };
  expect(report.scaling.map(({ events }) => events)).toEqual([50, 100, 200]);
  const store = await openStore(`lmdb:${workspace.run.path('users')}`);
  expect([await store.count({ tenant: '' }), await store.count()]).toEqual([13, 13]);
  await store.close();
  expect(existsSync(workspace.run.path('scaling-users'))).toBe(false);
});
