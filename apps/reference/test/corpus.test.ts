import { describe, expect, it } from '@jest/globals';
import { fitTokenizer, loadCorpus, openSource } from '../src/corpus.js';
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
