import { appendFile, mkdtemp, readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, jest, test } from '@jest/globals';
import { TextTokenizer } from '@user-llm/cross-attention';
import { genreQuestion, Prompts } from '../src/prompts.js';
import { ConsoleOutput } from '../src/run/console-output.js';
import type { GivenSettings } from '../src/workspace.js';
import { runAll } from '../src/stages/poc.js';
import { Workspace } from '../src/workspace.js';
import { smallFilmService, smallLog } from './small-log.js';
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
    readonly accuracy?: number;
    readonly tokensPerRequest: number | null;
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

test('examples and steps: every system sees as many as given, the encoder learns for as many, up to whole batches, also in a run that was stopped and goes on', async () => {
  const data = await smallLog();
  const given = { data, seed: 1, examples: 100, encoderSteps: 7, minutes: 0.03 };
  const stopped = await newFolder();
  const controller = new AbortController();
  const watched = await open(stopped, given, controller.signal);
  const said: string[] = [];
  const watch = (stop: (fraction: number) => void) =>
    jest.spyOn(output, 'progress').mockImplementation((stage) => ({
      update: ({ fraction, detail = '' }) => {
        if (stage !== `adapt ${main}`) return;
        said.push(detail);
        stop(fraction);
      },
      done: () => undefined,
    }));
  // Stops it in the middle of training the first system, once the rows of items are fitted.
  let progress = watch((fraction) => fraction > 0 && controller.abort());
  await expect(runAll(watched, {})).rejects.toMatchObject({ name: 'AbortError' });
  progress.mockRestore();
  expect(watched.run.finished(`adapt ${main}`)).toBeUndefined();
  const fits = (): string[] => said.splice(0).filter((detail) => detail.startsWith('fitting'));
  expect(fits()).toEqual(['fitting item tokens to what the encoder expects']);
  progress = watch(() => undefined);
  await runAll(await open(stopped, given), {});
  progress.mockRestore();
  // The checkpoint has the fitted rows, so that they are not fitted again before the training goes on.
  expect(fits()).toEqual(['fitting item tokens to what the encoder expects, once more']);

  const { training } = await reportOf(stopped);
  expect(training.find(({ name }) => name === 'encoder')!.steps).toBe(7);
  const seen = new Map(training.map(({ name, examplesSeen }) => [name, examplesSeen]));
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

test('genres: each has a token of its own, fitted to who liked what, and one pass over the prompt names the favourite', async () => {
  const out = await newFolder();
  const workspace = await open(out, { data: await smallFilmService(), seed: 1, examples: 64, users: 12 });
  await runAll(workspace, {});
  const { systems } = await reportOf(out);
  for (const name of [main, text]) {
    const { genreRows } = workspace.run.finished(`adapt ${name}`)!.result as { genreRows: { before: number; fitted: number } };
    // Users watch films of one genre and a few of another: whoever reads them tells which, where guessing gives .71.
    expect(genreRows.fitted).toBeGreaterThan(0.9);
    const labels = await readFile(path.join(out, 'systems', name.replace('/', '-'), 'labels.json'), 'utf8');
    expect((JSON.parse(labels) as { id: string }[]).map(({ id }) => id)).toEqual(['Comedy', 'Drama', 'Western']);
    const asked = systems.find((row) => row.name === name && row.task === 'favourite-genre')!;
    expect(asked.accuracy).toBeGreaterThan(0.7);
  }
  // A question alone, and no token of an answer.
  const tokenizer = await TextTokenizer.load(path.join(out, 'systems', main.replace('/', '-')));
  const { tokensPerRequest } = systems.find((row) => row.name === main && row.task === 'favourite-genre')!;
  expect(tokensPerRequest).toBe(new Prompts(tokenizer, []).question(genreQuestion).length);
});

test('other data at the same path are refused as another path would be, whatever command reads them', async () => {
  const [data, out] = [await smallLog(), await newFolder()];
  const given = { data, seed: 1, minutes: 0.03 };
  const first = await open(out, given);
  await first.corpus();
  await first.close();
  await (await open(out, given)).corpus();
  await appendFile(data, 'u1,film 1,5,1700000000\n');
  await expect((await open(out, given)).corpus()).rejects.toThrow(
    `${out} holds a run on other data: since it was begun, ratings.csv has changed. Put back what was there, or name another folder with --out, or start anew with --fresh`,
  );
  const opened = await Workspace.open({ out, output, signal: new AbortController().signal });
  await expect(opened.corpus()).rejects.toThrow('ratings.csv has changed');
  const anew = await open(out, { ...given, fresh: true });
  expect((await anew.corpus()).log.users).toHaveLength(30);
  await anew.close();
});
