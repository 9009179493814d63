import { beforeAll, describe, expect, it } from '@jest/globals';
import { TextTokenizer, trainByteLevelBpe } from '@user-llm/cross-attention';
import { AlignmentPairs } from '../src/alignment-pairs.js';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '../src/corpus.js';
import { Prompts } from '../src/prompts.js';
import { smallLog } from './small-log.js';

let corpus: Corpus;
let tokenizer: TextTokenizer;
let pairs: AlignmentPairs;

beforeAll(async () => {
  const dataset = await openSource(await smallLog(), 1);
  corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe(corpus.titles, { vocabularySize: 400 }));
  pairs = new AlignmentPairs(corpus, new Prompts(tokenizer, corpus.titles), 1, 3);
});

const lengthOf = (user: number): number => corpus.log.offsets[user + 1] - corpus.log.offsets[user];

describe('pairs of a user and a text', () => {
  it('tell the last titles of what the encoder reads, oldest first, and nothing of what is held out', () => {
    for (const { history, textIds } of pairs.training(80)) {
      const { user, end } = history;
      expect(end).toBeGreaterThan(0);
      expect(end).toBeLessThanOrEqual(lengthOf(user) - 2);
      const { offsets, items } = corpus.log;
      const last = Array.from(items.subarray(offsets[user] + Math.max(0, end - 3), offsets[user] + end));
      expect(tokenizer.decode(textIds).trim().split('\n')).toEqual(last.map((item) => corpus.titles[item]));
    }
    for (const { history } of pairs.validation(20)) expect(history.end).toBe(lengthOf(history.user) - 2);
  });

  it('are of everybody before a second one is of anybody, and the same for the same seed', () => {
    const users = corpus.train.users.length;
    const drawn = pairs.training(users + 5);
    expect(new Set(drawn.slice(0, users).map(({ history }) => history.user)).size).toBe(users);
    expect(pairs.training(users + 5)).toEqual(drawn);
    expect(new AlignmentPairs(corpus, new Prompts(tokenizer, corpus.titles), 2, 3).training(users + 5)).not.toEqual(drawn);
  });
});
