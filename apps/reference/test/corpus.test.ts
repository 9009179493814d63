import { describe, expect, it } from '@jest/globals';
import { fitTokenizer, loadCorpus, openSource } from '../src/corpus.js';
import { testsWithItemsLeft } from '../src/stages/test-questions.js';
import { smallLog } from './small-log.js';

describe('reading a log', () => {
  it('ends where the signal says so, in fitting and in encoding', async () => {
    const dataset = await openSource(await smallLog(), 1);
    const tokenizer = await fitTokenizer(dataset);
    const stop = AbortSignal.abort(new Error('enough'));
    await expect(fitTokenizer(dataset, stop)).rejects.toThrow('enough');
    await expect(loadCorpus(dataset, tokenizer, stop)).rejects.toThrow('enough');
    expect((await loadCorpus(dataset, tokenizer)).log.users.length).toBeGreaterThan(0);
  });
});

describe('rankings that are compared with each other', () => {
  it('are those of users who have not met every item: of the others there is nothing to rank', async () => {
    const seen = Array.from({ length: 5 }, (_, i) => `new,film ${i},3,${1_600_000_000 + i}`);
    // Thirteen events that are known, over twelve items.
    const log = await smallLog({ users: 12, items: 12, events: 14, more: seen });
    const named = async (file: string): Promise<string[]> => {
      const dataset = await openSource(file, 1);
      const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
      return testsWithItemsLeft(corpus).map(({ user }) => corpus.log.users[user]);
    };
    expect(await named(log)).toEqual(['new']);
    expect(await named(await smallLog({ users: 12, items: 20, events: 14 }))).toHaveLength(12);
  });
});
