import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { BestList } from '../src/ranking/best-list.js';
import { beamSearch, exactRanking } from '../src/ranking/beam-search.js';
import { PrefixTrie } from '../src/ranking/prefix-trie.js';
import { logNormalizer } from '../src/ranking/token-scorer.js';
import type { TokenScorer } from '../src/ranking/token-scorer.js';

const end = 0;
const vocabulary = 6;
type Rows = readonly (readonly number[])[];

/** A language model whose state is the texts themselves, so that nothing can go astray in a cache. */
class TableModel implements TokenScorer<Rows> {
  released = 0;
  started = 0;
  largestBatch = 0;
  rows = 0;

  /** `logitsAfter`: what the model says after some tokens. */
  constructor(readonly logitsAfter: (text: readonly number[]) => readonly number[]) {}

  async start(): Promise<Rows> {
    this.started++;
    return [[]];
  }

  async step(state: Rows, parents: Int32Array, tokens: Int32Array): Promise<Rows> {
    this.started++;
    this.rows += tokens.length;
    this.largestBatch = Math.max(this.largestBatch, tokens.length);
    return Array.from(tokens, (token, i) => [...state[parents[i]], token]);
  }

  logits(state: Rows) {
    return { data: Float32Array.from(state.flatMap((text) => this.logitsAfter(text))), vocabulary };
  }

  release(): void {
    this.released++;
  }
}

/** Logits that depend on the whole text; coarse, so that equal scores occur. */
function coarseTable(seed: number) {
  return (text: readonly number[]) =>
    Array.from({ length: vocabulary }, (_, token) => {
      let hash = seed;
      for (const id of [...text, token]) hash = (Math.imul(hash ^ (id + 1), 0x9e3779b1) >>> 0) ^ (hash >>> 15);
      return (hash >>> 7) % 3;
    });
}

/** The definition: the sum of the log-probabilities of a title's tokens and its end. */
function bruteForce(titles: Rows, model: TableModel, exclude: ReadonlySet<number> = new Set()) {
  return titles
    .map((title, item) => {
      let score = 0;
      [...title, end].forEach((token, i) => {
        const data = Float32Array.from(model.logitsAfter(title.slice(0, i)));
        score = score - logNormalizer({ data, vocabulary }, 0) + data[token];
      });
      return { item, score };
    })
    .filter(({ item }) => !exclude.has(item))
    .sort((a, b) => b.score - a.score || a.item - b.item);
}

const anyTitles = fc.array(fc.array(fc.integer({ min: 1, max: vocabulary - 1 }), { maxLength: 5 }), {
  minLength: 1,
  maxLength: 25,
});

describe('the prefix trie', () => {
  const titles = [[3, 1], [3], [2, 2, 2], [3, 1], [], [3, 1, 4]];
  const trie = PrefixTrie.build(titles, end);

  test('a title that begins another one, equal titles and an empty one each have a leaf', () => {
    expect([...trie.itemsOf(trie.leafOfItem[0])]).toEqual([0, 3]);
    expect([...trie.itemsOf(trie.leafOfItem[1])]).toEqual([1]);
    expect([...trie.itemsOf(trie.leafOfItem[4])]).toEqual([4]);
    expect(new Set(trie.leafOfItem).size).toBe(5);
    expect(trie.depth).toBe(4);
    expect(trie.itemsBelow[0]).toBe(6);
  });

  test('every path from the root to a leaf spells the title; children are sorted and know their parent', () => {
    fc.assert(
      fc.property(anyTitles, (random) => {
        const built = PrefixTrie.build(random, end);
        random.forEach((title, item) => {
          const spelled: number[] = [];
          for (let node = built.leafOfItem[item]; node !== 0; node = built.parent[node]) spelled.unshift(built.token[node]);
          expect(spelled).toEqual([...title, end]);
        });
        for (let node = 0; node < built.nodes; node++) {
          const children = Array.from(
            { length: built.firstChild[node + 1] - built.firstChild[node] },
            (_, i) => built.firstChild[node] + i,
          );
          expect(children.every((child) => built.parent[child] === node)).toBe(true);
          const tokens = children.map((child) => built.token[child]);
          expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
          if (children.length > 0)
            expect(built.itemsBelow[node]).toBe(children.reduce((sum, child) => sum + built.itemsBelow[child], 0));
        }
      }),
    );
  });

  test('the end token inside a title is refused; no titles at all are fine', async () => {
    expect(() => PrefixTrie.build([[1], [2, end, 3]], end)).toThrow(/Title 1 holds the end token 0/);
    const empty = PrefixTrie.build([], end);
    expect([...(await beamSearch(empty, new TableModel(coarseTable(1)), { top: 3 })).items]).toEqual([]);
  });
});

describe('ranking', () => {
  test('a beam as wide as the trie, the exact ranking and the definition agree, ties and duplicates included', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyTitles,
        fc.integer(),
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.nat(24), { maxLength: 6 }),
        async (titles, seed, top, chunk, excluded) => {
          const trie = PrefixTrie.build(titles, end);
          const exclude = new Set(excluded.filter((item) => item < titles.length));
          const model = new TableModel(coarseTable(seed));
          const expected = bruteForce(titles, model, exclude).slice(0, top);
          const beam = await beamSearch(trie, model, { top, width: Math.max(top, trie.nodes), exclude });
          const exact = await exactRanking(trie, model, { top, chunk, exclude });
          for (const result of [beam, exact]) {
            expect([...result.items]).toEqual(expected.map(({ item }) => item));
            expect([...result.scores]).toEqual(expected.map(({ score }) => score));
          }
          expect(model.released).toBe(model.started);
          expect(model.rows).toBe(beam.tokens + exact.tokens);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('probabilities of all titles that can be spelled sum to one', async () => {
    // Every text of at most two tokens, where the model ends after two at the latest.
    const letters = [1, 2, 3, 4, 5];
    const titles = [[], ...letters.map((a) => [a]), ...letters.flatMap((a) => letters.map((b) => [a, b]))];
    const certainEnd = [0, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity];
    const table = coarseTable(5);
    const model = new TableModel((text) => (text.length === 2 ? certainEnd : table(text)));
    const { scores } = await exactRanking(PrefixTrie.build(titles, end), model, { top: titles.length });
    expect(scores.reduce((sum, score) => sum + Math.exp(score), 0)).toBeCloseTo(1, 6);
  });

  test('a narrow beam keeps its width, gives true scores, and as many items as it was asked for', async () => {
    await fc.assert(
      fc.asyncProperty(anyTitles, fc.integer(), fc.integer({ min: 1, max: 4 }), async (titles, seed, width) => {
        const model = new TableModel(coarseTable(seed));
        const result = await beamSearch(PrefixTrie.build(titles, end), model, { top: width, width });
        expect(model.largestBatch).toBeLessThanOrEqual(width);
        expect(result.items.length).toBe(Math.min(width, titles.length));
        const truth = new Map(bruteForce(titles, model).map(({ item, score }) => [item, score]));
        result.items.forEach((item, i) => expect(result.scores[i]).toBe(truth.get(item)));
      }),
      { numRuns: 100 },
    );
  });

  test('a narrow beam can miss the best title, and the exact ranking says so', async () => {
    // Token 1 looks better at first, but all that follows it is unlikely.
    const model = new TableModel((text) =>
      text.length === 0 ? [-9, 1, 0.5, -9, -9, -9] : text[0] === 1 ? [0, 0, 0, 0, 0, 0] : [9, 0, 0, 0, 0, 0],
    );
    const trie = PrefixTrie.build([[1], [2]], end);
    expect([...(await beamSearch(trie, model, { top: 1, width: 1 })).items]).toEqual([0]);
    expect([...(await exactRanking(trie, model, { top: 1 })).items]).toEqual([1]);
  });

  test('excluded items take no place in the beam', async () => {
    const titles = [
      [1, 1],
      [1, 2],
      [2, 3],
      [3, 3],
    ];
    const model = new TableModel((text) => (text.length === 0 ? [0, 9, 5, 1, 0, 0] : [3, 2, 1, 1, 0, 0]));
    const { items } = await beamSearch(PrefixTrie.build(titles, end), model, { top: 1, width: 1, exclude: [0, 1] });
    expect([...items]).toEqual([2]);
    const none = await beamSearch(PrefixTrie.build(titles, end), model, { top: 2, exclude: [0, 1, 2, 3] });
    expect([...none.items]).toEqual([]);
  });

  test('all titles are asked for by any number that is large enough', async () => {
    const trie = PrefixTrie.build([[1, 2], [1], [3]], end);
    const model = new TableModel(coarseTable(5));
    const expected = bruteForce([[1, 2], [1], [3]], model).map(({ item }) => item);
    for (const top of [3, 1e12, Number.MAX_SAFE_INTEGER])
      for (const ranking of [beamSearch, exactRanking])
        expect([...(await ranking(trie, model, { top })).items]).toEqual(expected);
    expect([...(await beamSearch(trie, model, { top: 2, width: 1e12 })).items]).toEqual(expected.slice(0, 2));
  });

  test('normalisers that the model computed itself are used', async () => {
    const model = new TableModel(coarseTable(3));
    const trie = PrefixTrie.build([[1, 2], [3]], end);
    const withNormalizers: TokenScorer<Rows> = {
      start: () => model.start(),
      step: (...step) => model.step(...step),
      logits: (state) => {
        const logits = model.logits(state);
        return { ...logits, logNormalizers: Float32Array.from(state, (_, row) => logNormalizer(logits, row) + 1) };
      },
    };
    const [plain, shifted] = [await beamSearch(trie, model, { top: 2 }), await beamSearch(trie, withNormalizers, { top: 2 })];
    // Each token and the end cost one more: three for the first title, two for the second.
    plain.items.forEach((item, i) => {
      const at = shifted.items.indexOf(item);
      expect(shifted.scores[at]).toBeCloseTo(plain.scores[i] - (item === 0 ? 3 : 2), 4);
    });
  });

  test('bad requests, foreign tokens, broken logits and an abort', async () => {
    const trie = PrefixTrie.build([[1], [2]], end);
    const model = new TableModel(coarseTable(1));
    await expect(beamSearch(trie, model, { top: 5, width: 2 })).rejects.toThrow(/width 2 cannot return 5/);
    await expect(beamSearch(trie, model, { top: 0 })).rejects.toThrow(/top must be/);
    await expect(exactRanking(trie, model, { top: 1, exclude: [2] })).rejects.toThrow(/Item 2.*has 2 items/);
    await expect(beamSearch(trie, model, { top: 1, exclude: [1.5] })).rejects.toThrow(RangeError);
    await expect(beamSearch(PrefixTrie.build([[6]], end), model, { top: 1 })).rejects.toThrow(/token 6.*vocabulary holds 6/);
    await expect(beamSearch(trie, new TableModel(() => Array<number>(vocabulary).fill(NaN)), { top: 1 })).rejects.toThrow(
      /are not finite/,
    );
    await expect(beamSearch(trie, model, { top: 1, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    await expect(exactRanking(trie, model, { top: 1, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    expect(model.released).toBe(model.started);
  });
});

describe('the best-list', () => {
  test('keeps what sorting would keep', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: -3, max: 3 }), fc.nat(50))),
        fc.integer({ min: 0, max: 8 }),
        (entries, capacity) => {
          const list = new BestList(capacity);
          entries.forEach(([score, tie], payload) => list.add(score, tie, payload));
          const expected = [...entries].sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, capacity);
          expect(list.sorted().map(({ score, tie }) => [score, tie])).toEqual(expected);
          expect(list.threshold).toBe(capacity > 0 && expected.length === capacity ? expected[capacity - 1][0] : -Infinity);
        },
      ),
    );
  });
});
