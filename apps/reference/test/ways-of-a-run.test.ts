import { mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, jest, test } from '@jest/globals';
import { ConsoleOutput } from '../src/run/console-output.js';
import type { GivenSettings } from '../src/workspace.js';
import { runAll } from '../src/stages/poc.js';
import { Workspace } from '../src/workspace.js';
import { smallLog } from './small-log.js';
import { tinyModel } from './tiny-model.js';

jest.setTimeout(120_000);

const output = new ConsoleOutput({ json: true, quiet: true });
jest.spyOn(process.stdout, 'write').mockReturnValue(true);

interface Report {
  readonly sampleUsers: number;
  readonly examplesPerSystem?: number;
  readonly ranking: { readonly way: string; readonly retrieverShares?: Record<string, number> };
  readonly systems: readonly {
    readonly name: string;
    readonly task: string;
    readonly users: number;
    readonly filtered: Record<string, number>;
    readonly notes?: readonly string[];
  }[];
  readonly training: readonly {
    readonly name: string;
    readonly examplesSeen?: number;
    readonly strategy?: string;
    readonly steps?: number;
  }[];
}

const [main, text] = ['user-llm/cross-attention', 'text-prompt-10'];

async function open(
  out: string,
  given: GivenSettings,
  signal = new AbortController().signal,
  systems = [main, text],
): Promise<Workspace> {
  return Workspace.create({ out, output, signal, systems, threads: 1 }, { minutes: 0.03, ...given });
}

async function newFolder(): Promise<string> {
  return path.join(await mkdtemp(path.join(os.tmpdir(), 'ways-')), 'run');
}

async function reportOf(out: string): Promise<Report> {
  return JSON.parse(await readFile(path.join(out, 'report.json'), 'utf8')) as Report;
}

const rankings = ({ systems }: Report): Report['systems'] => systems.filter(({ task }) => task === 'next-item');

test('retrieve: a share of the order is the retriever’s, chosen for each system, and the users asked are as many as given', async () => {
  const out = await newFolder();
  await runAll(await open(out, { data: await smallLog(), seed: 1, ranking: 'retrieve', users: 7 }), {});
  const report = await reportOf(out);
  expect(report.ranking.way).toBe('retrieve');
  const shares = report.ranking.retrieverShares!;
  expect(Object.keys(shares)).toEqual([main, text]);
  for (const share of Object.values(shares)) expect([0, 0.25, 0.5, 0.75, 1]).toContain(share);
  expect(report.sampleUsers).toBe(7);
  for (const { name, users } of rankings(report)) expect([name, users]).toEqual([name, [main, text].includes(name) ? 7 : 30]);
});

test('examples: every system sees as many as given, up to whole batches, also in a run that was stopped and goes on', async () => {
  const data = await smallLog();
  const given = { data, seed: 1, examples: 100, minutes: 0.03 };
  const stopped = await newFolder();
  const controller = new AbortController();
  const watched = await open(stopped, given, controller.signal);
  // Stops it in the middle of training the first system.
  const { output: real } = watched;
  const progress = jest.spyOn(real, 'progress').mockImplementation((stage) => ({
    update: () => stage === `adapt ${main}` && controller.abort(),
    done: () => undefined,
  }));
  await expect(runAll(watched, {})).rejects.toMatchObject({ name: 'AbortError' });
  progress.mockRestore();
  expect(watched.run.finished(`adapt ${main}`)).toBeUndefined();
  await runAll(await open(stopped, given), {});

  const seen = new Map((await reportOf(stopped)).training.map(({ name, examplesSeen }) => [name, examplesSeen]));
  // Steps of 64 examples, and of 32.
  expect(seen.get(main)).toBe(128);
  expect(seen.get(text)).toBe(128);
  expect((await reportOf(stopped)).examplesPerSystem).toBe(100);
});

test('a given language model: it stays as it is for what reads users, and a text prompt learns by LoRA', async () => {
  const out = await newFolder();
  await runAll(await open(out, { data: await smallLog(), seed: 1, llm: await tinyModel(), users: 5 }), {});
  const report = await reportOf(out);
  const strategies = new Map(report.training.map(({ name, strategy }) => [name, strategy]));
  expect([strategies.get(main), strategies.get(text)]).toEqual(['encoder', 'lora']);
  for (const { filtered } of rankings(report)) expect(filtered['recall@10']).toBeGreaterThanOrEqual(0);
});

test('aligned first: the examples of the other are divided between the stages, and the report says what each was', async () => {
  const out = await newFolder();
  const aligned = `${main}@aligned`;
  const given = { data: await smallLog(), seed: 1, examples: 640, users: 5 };
  await runAll(await open(out, given, undefined, [main, aligned]), {});
  const { training, systems } = await reportOf(out);
  const seen = new Map(training.map(({ name, examplesSeen }) => [name, examplesSeen!]));
  expect(seen.get(main)).toBe(640);
  // Four fifths of the examples in steps of 64; a fifth is two steps of the alignment.
  expect(seen.get(aligned)).toBe(512);
  expect(training.find(({ name }) => name === `${aligned}, alignment`)!.steps).toBe(2);
  const notes = systems.find(({ name }) => name === aligned)!.notes!;
  expect(notes[0]).toMatch(/^aligned first: 2 steps in \d+ s; of \d+ held-out users and texts \d+ % found each other$/);
});
