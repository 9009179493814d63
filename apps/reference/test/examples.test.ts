import { beforeAll, describe, expect, it } from '@jest/globals';
import { PrefixTrie, TextTokenizer, trainByteLevelBpe } from '@user-llm/cross-attention';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '../src/corpus.js';
import { ExampleSource, type Example } from '../src/examples.js';
import { nextQuestions, Prompts } from '../src/prompts.js';
import { smallLog } from './small-log.js';

let corpus: Corpus;
let tokenizer: TextTokenizer;
let prompts: Prompts;
let trie: PrefixTrie;

beforeAll(async () => {
  const dataset = await openSource(await smallLog(), 1);
  corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...corpus.titles, ...nextQuestions], { vocabularySize: 400 }));
  trie = PrefixTrie.build(
    corpus.titles.map((title) => tokenizer.encode(title)),
    tokenizer.eos,
  );
  prompts = new Prompts(tokenizer, corpus.titles);
});

const answerOf = ({ answerIds }: Example): string => tokenizer.decode(answerIds);
const titleAt = (user: number, position: number): string => corpus.titles[corpus.log.items[corpus.log.offsets[user] + position]];

describe('training examples', () => {
  it('ask for the event after the history, and never for a held-out one', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: true, titles: 0 }, 1, trie);
    for (let step = 1; step <= 40; step++)
      for (const example of source.batch(step, { users: 4, moments: 3, reach: 100 })) {
        if (!example.history) continue;
        const { user, end } = example.history;
        const length = corpus.log.offsets[user + 1] - corpus.log.offsets[user];
        expect(end).toBeGreaterThan(0);
        expect(end).toBeLessThan(length - 2);
        expect(answerOf(example)).toBe(titleAt(user, end));
      }
  });

  it('are the same for the same seed and step, in whatever order steps are asked for', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: false, titles: 10 }, 7, trie);
    const size = { users: 4, moments: 2, reach: 100 };
    const third = source.batch(3, size);
    source.batch(1, size);
    expect(source.batch(3, size)).toEqual(third);
    expect(new ExampleSource(corpus, prompts, { embedding: false, titles: 10 }, 8, trie).batch(3, size)).not.toEqual(third);
  });

  it('of a text prompt hold the last titles, oldest first, and learn from each of them, while only the answer is validated', () => {
    const [example] = new ExampleSource(corpus, prompts, { embedding: false, titles: 3 }, 1, trie).validation(1);
    const asked = tokenizer.decode(example.promptIds);
    const lines = asked.split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[3]).toBe(nextQuestions[0]);
    expect(example.promptWeight).toBe(0);
    const [trained] = new ExampleSource(corpus, prompts, { embedding: false, titles: 3 }, 1, trie).batch(1, {
      users: 1,
      moments: 1,
      reach: 100,
    });
    expect(trained.promptWeight).toBe(1);
  });

  it('for validation ask for the validation item', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: true, titles: 0 }, 1, trie);
    for (const example of source.validation(10)) {
      const { user, end } = example.history!;
      expect(end).toBe(corpus.log.offsets[user + 1] - corpus.log.offsets[user] - 2);
      expect(answerOf(example)).toBe(titleAt(user, end));
    }
  });
});
