import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { LanguageModel } from '../src/language-model.js';
import { promptPart } from '../src/serving/token-run.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { filmModelSizes, filmTokenizer, films } from './film-model.js';

/** A prompt of three parts. */
const promptIds = Array.from({ length: 3 * promptPart }, (_, i) => 1 + (i % 250));
const longModel = LanguageModel.create({ ...filmModelSizes, context: 4 * promptPart }, filmTokenizer, 1).withItemTokens(films);
const trie = longModel.trie(films.map(({ text }) => text));
let served: ServedModel;
/** Tokens of each run of the model's session. */
let runs: number[];
let stop: AbortController;
/** In which run the signal is given. */
let stoppedIn: number;

beforeEach(async () => {
  served = await longModel.serve({ threads: 1 });
  runs = [];
  stop = new AbortController();
  const { session } = served['engine'];
  const run = session.run.bind(session) as (...call: unknown[]) => ReturnType<typeof session.run>;
  session.run = async (...call: unknown[]) => {
    const outputs = await run(...call);
    runs.push((call[0] as { input_ids: { dims: number[] } }).input_ids.dims[1]);
    // As from outside: what comes during a run is heard when the event loop is free again.
    if (runs.length === stoppedIn) setImmediate(() => stop.abort(new Error('enough')));
    return outputs;
  };
});
afterEach(() => served.dispose());

test.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
  ['an answer', (signal) => served.generate({ promptIds, maxNewTokens: 3, signal }).tokenIds],
  ['a ranking by title', (signal) => served.rank({ promptIds, trie, top: 2, signal })],
  ['a ranking by item tokens', (signal) => served.rank({ promptIds, by: 'item-tokens', top: 2, signal })],
  ['a prefix', (signal) => served.prefix({ promptIds, blindTokens: promptIds.length - 1, signal })],
])('a signal stops %s between two parts of a long prompt, and behind its last one', async (_, ask) => {
  stoppedIn = 1;
  await expect(ask(stop.signal)).rejects.toThrow('enough');
  expect(runs).toEqual([promptPart]);
  runs = [];
  stoppedIn = 3;
  stop = new AbortController();
  await expect(ask(stop.signal)).rejects.toThrow('enough');
  expect(runs).toHaveLength(3);
  runs = [];
  await expect(ask(stop.signal)).rejects.toThrow('enough');
  expect(runs).toHaveLength(0);
});
