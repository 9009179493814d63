import { mkdtemp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, it, jest } from '@jest/globals';
import { ConsoleOutput } from '../src/run/console-output.js';
import { prepareLanguageModel } from '../src/stages/language.js';
import { Workspace } from '../src/workspace.js';
import { smallLog } from './small-log.js';

it('of a language model whose time was up before its first step no loss is told', async () => {
  const output = new ConsoleOutput({ json: false, quiet: true });
  const said: unknown[] = [];
  jest
    .spyOn(output, 'progress')
    .mockImplementation((stage) => ({ update: () => undefined, done: (summary) => said.push([stage, summary]) }));
  const out = path.join(await mkdtemp(path.join(os.tmpdir(), 'language-')), 'run');
  const place = { out, output, signal: new AbortController().signal, threads: 1 };
  const workspace = await Workspace.create(place, { data: await smallLog(), seed: 1, minutes: 1e-6 });
  const { result } = await prepareLanguageModel(workspace);
  expect(result.training).toMatchObject({ steps: 0 });
  expect(said.at(-1)).toEqual(['language', '0 steps, loss -']);
}, 60_000);
