import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { titleDistributions } from '../src/ranking/title-distributions.js';
import { textRow } from '../src/adaptation/text-rows.js';
import { beamSearch, exactRanking } from '../src/ranking/beam-search.js';
import { choiceWeights } from '../src/ranking/choice-weights.js';
import { PrefixTrie } from '../src/ranking/prefix-trie.js';
import type { TokenScorer } from '../src/ranking/token-scorer.js';

const vocabulary = 7;
const end = 0;

/** Logits that depend on the whole text. */
const logitsAfter = (text: readonly number[]) =>
  Array.from(
    { length: vocabulary },
    (_, token) => 3 * Math.sin(1 + token * 1.7 + text.reduce((sum, id, i) => sum + (id + 2) * (i + 3), 0)),
  );

const scorer: TokenScorer<number[][]> = {
  start: async () => [[]],
  step: async (state, parents, tokens) => Array.from(tokens, (token, i) => [...state[parents[i]], token]),
  logits: (state) => ({ data: Float32Array.from(state.flatMap(logitsAfter)), vocabulary }),
};

/** The definition: at every token, a softmax over what can follow in some title. */
function bruteForce(titles: readonly (readonly number[])[]): number[] {
  const whole = titles.map((title) => [...title, end]);
  return whole.map((title) => {
    let score = 0;
    title.forEach((token, at) => {
      const prefix = title.slice(0, at);
      const following = new Set(
        whole.filter((other) => prefix.every((id, i) => other[i] === id) && other.length > at).map((other) => other[at]),
      );
      const logits = Array.from(Float32Array.from(logitsAfter(prefix)));
      score += logits[token] - Math.log([...following].reduce((sum, id) => sum + Math.exp(logits[id]), 0));
    });
    return score;
  });
}

const anyTitles = fc.array(fc.array(fc.integer({ min: 1, max: vocabulary - 1 }), { maxLength: 5 }), {
  minLength: 1,
  maxLength: 25,
});

describe('a title among the titles', () => {
  test('has the probability of its choices; the different titles sum to one', async () => {
    await fc.assert(
      fc.asyncProperty(anyTitles, async (titles) => {
        const trie = PrefixTrie.build(titles, end);
        const truth = bruteForce(titles);
        const options = { top: titles.length, among: 'catalogue' } as const;
        for (const { items, scores } of [await beamSearch(trie, scorer, options), await exactRanking(trie, scorer, options)]) {
          expect(items).toHaveLength(titles.length);
          items.forEach((item, i) => expect(scores[i]).toBeCloseTo(truth[item], 4));
          const different = new Map(Array.from(items, (item, i) => [titles[item].join(), scores[i]]));
          expect([...different.values()].reduce((sum, score) => sum + Math.exp(score), 0)).toBeCloseTo(1, 4);
        }
      }),
    );
  });

  test('is trained by its choices', () => {
    const trie = PrefixTrie.build([[1, 2, 3], [1, 2, 4], [5, 6], [5]], end);
    expect(choiceWeights(trie, [1, 2, 3, end], 0.1)).toEqual([1, 0.1, 1, 0.1]);
    expect(choiceWeights(trie, [5, 6, end], 0)).toEqual([1, 1, 0]);
    expect(choiceWeights(trie, [5, end], 0)).toEqual([1, 1]);
    // From where it leaves the trie.
    expect(choiceWeights(trie, [1, 3, 3], 0)).toEqual([1, 1, 1]);
    const model = { vocabularySize: 7, contextLength: 10, placeholders: { count: 0, firstId: 7 } };
    const row = textRow({ promptIds: [4], answerIds: [5, 6, end], answerWeights: [1, 0.5, 0] }, model, 'example');
    expect([row.tokens.map(({ target }) => target), row.tokens.map(({ weight }) => weight)]).toEqual([
      [5, 6],
      [1, 0.5],
    ]);
    expect(() => textRow({ promptIds: [4], answerIds: [5], answerWeights: [] }, model, 'example 3')).toThrow(
      'example 3: has 0 weights for the 1 tokens',
    );
  });

  test('is a distribution at each choice of a title', () => {
    const trie = PrefixTrie.build([[1, 2, 3], [1, 2, 4], [5, 6], [5]], end);
    const probabilities = [0.1, 0.3, 0.4, 0.2];
    const plain = (title: number[], of = probabilities) =>
      titleDistributions(trie, title, of).map((found) => found && Array.from(found.ids, (id, i) => [id, found.probabilities[i]]));
    const close = (value: number) => expect.closeTo(value, 6);
    expect(plain([1, 2, 4, end])).toEqual([
      [
        [1, close(0.4)],
        [5, close(0.6)],
      ],
      undefined,
      [
        [3, close(0.25)],
        [4, close(0.75)],
      ],
      undefined,
    ]);
    // Shares count, not their sum; where nothing is probable there is nothing to learn, nor outside the trie.
    expect(plain([5, 6, end], [1, 3, 4, 2])[0]).toEqual(plain([5, 6, end])[0]);
    expect(plain([5, 6, end], [1, 0, 0, 0])[1]).toBeUndefined();
    expect(plain([1, 3, 3]).slice(2)).toEqual([undefined]);
    expect(() => plain([1], [1])).toThrow('1 probabilities for the 4 items');
  });
});
