import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PrefixTrie, TextTokenizer, trainByteLevelBpe } from '@user-llm/cross-attention';
import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import { UserEncoder } from '@user-llm/user-encoder';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '../src/corpus.js';
import { ExampleSource, type Example } from '../src/examples.js';
import { nextQuestions, Prompts } from '../src/prompts.js';
import { Teacher } from '../src/teacher.js';
import { smallLog } from './small-log.js';

let corpus: Corpus;
let encoder: UserEncoder;
let tokenizer: TextTokenizer;
let trie: PrefixTrie;
let source: ExampleSource;
let teacher: Teacher;
const size = { users: 4, moments: 3, reach: 100 };

beforeAll(async () => {
  const dataset = await openSource(await smallLog(), 1);
  corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...corpus.titles, ...nextQuestions], { vocabularySize: 400 }));
  trie = PrefixTrie.build(
    corpus.titles.map((title) => tokenizer.encode(title)),
    tokenizer.eos,
  );
  const prompts = new Prompts(tokenizer, corpus.titles);
  source = new ExampleSource(corpus, prompts, { embedding: true, titles: 0 }, 1, trie);
  encoder = UserEncoder.create(corpus.tokenizer, { width: 16, layers: 1, heads: 2, context: 40, userTokens: 2 }, { threads: 1 });
  teacher = new Teacher(encoder, corpus.known, prompts, corpus.titles, trie, 1);
});
afterAll(() => encoder.dispose());

const asksAnItem = ({ history, item }: Example): boolean => history !== undefined && item !== undefined;

describe('the teacher', () => {
  it('gives each token that titles first differ in what the encoder expects of the titles that have it, and a share to what came next', async () => {
    const examples = source.batch(1, size);
    const taught = await teacher.teach(examples, 1);
    let [node, place] = [0, 0];
    for (; trie.firstChild[node + 1] - trie.firstChild[node] === 1; place++) node = trie.firstChild[node];
    const [firstChild, end] = [trie.firstChild[node], trie.firstChild[node + 1]];
    for (const [i, example] of examples.entries()) {
      if (!asksAnItem(example)) continue;
      const [scores] = await encoder.scoreMoments(corpus.known, [example.history!]);
      const weights = Array.from(scores.subarray(FIRST_VALUE_ID), Math.exp);
      const total = weights.reduce((a, b) => a + b, 0);
      const expected = Array.from({ length: end - firstChild }, (_, child) =>
        trie
          .itemsOf(firstChild + child)
          .reduce((sum, item) => sum + (0.8 * weights[item]) / total + (item === example.item ? 0.2 : 0), 0),
      );
      const found = taught[i].answerDistributions![place]!;
      expect(found.ids).toEqual(trie.token.slice(firstChild, end));
      expected.forEach((probability, child) => expect(found.probabilities[child]).toBeCloseTo(probability, 5));
    }
  });

  it('draws answers among all titles by that distribution, the same ones for the same step', async () => {
    const examples = source.batch(2, size);
    const taught = await teacher.teach(examples, 2);
    expect(await teacher.teach(examples, 2)).toEqual(taught);
    expect(await teacher.teach(examples, 3)).not.toEqual(taught);
    const drawn = taught.filter((example, i) => asksAnItem(example) && example.answerIds !== examples[i].answerIds);
    expect(drawn.length).toBeGreaterThan(0);
    for (const { answerIds, answerWeights, answerDistributions } of taught.filter(asksAnItem)) {
      expect(answerWeights).toHaveLength(answerIds.length);
      expect(answerDistributions).toHaveLength(answerIds.length);
    }
  });

  it('gives the whole distribution to what names an item, in words or not', async () => {
    const items = new ExampleSource(
      corpus,
      new Prompts(tokenizer, corpus.titles),
      { embedding: true, titles: 0 },
      1,
      trie,
      'item-tokens',
    );
    for (const step of [3, 4]) {
      const examples = items.batch(step, size);
      const taught = await teacher.teach(examples, step);
      for (const [i, example] of examples.entries()) {
        if (!asksAnItem(example)) continue;
        const [scores] = await encoder.scoreMoments(corpus.known, [example.history!]);
        const weights = Array.from(scores.subarray(FIRST_VALUE_ID), Math.exp);
        const total = weights.reduce((a, b) => a + b, 0);
        const [{ item, probabilities }] = taught[i].items!;
        expect(item).toBe(example.item);
        expect(probabilities).toHaveLength(corpus.titles.length);
        weights.forEach((weight, other) =>
          expect(probabilities![other]).toBeCloseTo((0.8 * weight) / total + (other === item ? 0.2 : 0), 5),
        );
        expect(taught[i].answerIds.length > 0).toBe(step === 4);
      }
    }
  });

  it('expects nothing of what the user had taken, where nobody takes an item again', async () => {
    const reading = { embedding: true, titles: 0 };
    const prompts = new Prompts(tokenizer, corpus.titles);
    const items = new ExampleSource(corpus, prompts, reading, 1, trie, 'item-tokens', undefined, 'never');
    const taught = (await teacher.teach(items.batch(3, size), 3)).filter(asksAnItem);
    expect(taught.length).toBeGreaterThan(0);
    for (const { items } of taught) {
      const [{ item, excluded, probabilities }] = items!;
      const taken = [...excluded!];
      expect(taken.length).toBeGreaterThan(0);
      expect(taken.map((one) => probabilities![one])).toEqual(taken.map(() => 0));
      expect(probabilities![item]).toBeGreaterThan(0.2);
      expect(Array.from(probabilities!).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
    }
  });

  it('leaves alone what asks for no item, or of no user', async () => {
    const [example] = source.batch(1, size).filter(asksAnItem);
    const others: Example[] = [
      { ...example, item: undefined },
      { ...example, history: undefined },
    ];
    expect(await teacher.teach(others, 1)).toEqual(others);
  });
});
