import { beforeAll, describe, expect, it } from '@jest/globals';
import { favouriteGenre } from '@user-llm/evaluation';
import { PrefixTrie, TextTokenizer, trainByteLevelBpe } from '@user-llm/cross-attention';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '../src/corpus.js';
import { ExampleSource, validatedUsers, type Example } from '../src/examples.js';
import { genreQuestion, nextQuestions, Prompts } from '../src/prompts.js';
import { FavouriteGenres } from '../src/favourite-genres.js';
import { smallFilmService, smallLog } from './small-log.js';

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
    const [example] = new ExampleSource(corpus, prompts, { embedding: false, titles: 3 }, 1, trie).validation({
      most: 1,
      tokens: 0,
    });
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
    for (const example of source.validation({ most: 10, tokens: 1000 })) {
      const { user, end } = example.history!;
      expect(end).toBe(corpus.log.offsets[user + 1] - corpus.log.offsets[user] - 2);
      expect(answerOf(example)).toBe(titleAt(user, end));
    }
  });
});

describe('training examples of items that have tokens', () => {
  const itemAt = (user: number, position: number): number => corpus.log.items[corpus.log.offsets[user] + position];
  const size = { users: 6, moments: 2, reach: 100 };
  const asksItem = ({ history, item }: Example): boolean => history !== undefined && item !== undefined;

  it('name the item that came next, and every fourth step also say its title', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: true, titles: 0 }, 1, trie, 'item-tokens');
    for (let step = 1; step <= 8; step++)
      for (const example of source.batch(step, size).filter(asksItem)) {
        const { user, end } = example.history!;
        expect(example.items).toEqual([{ item: itemAt(user, end) }]);
        if (step % 4 === 0) expect(answerOf(example)).toBe(titleAt(user, end));
        else expect(example.answerIds).toEqual([]);
      }
  });

  it('of a text prompt name the item behind each title, the asked one behind the last title and behind the question', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: false, titles: 3 }, 1, trie, 'item-tokens');
    const examples = source.batch(1, { ...size, moments: 1 }).filter(({ item }) => item !== undefined);
    expect(examples.length).toBeGreaterThan(0);
    for (const { promptIds, items, item, promptWeight } of examples) {
      expect(promptWeight).toBe(0);
      const lines = tokenizer.decode(promptIds).split('\n');
      expect(items).toHaveLength(lines.length);
      for (const [i, { after, item: named }] of items!.slice(0, -1).entries()) {
        // What the model has read by then ends with the i-th title.
        expect(tokenizer.decode(promptIds.slice(0, after! + 1))).toBe(`${lines.slice(0, i + 1).join('\n')}\n`);
        expect(corpus.titles[named]).toBe(i + 1 < lines.length - 1 ? lines[i + 1] : corpus.titles[item!]);
      }
      expect(items!.at(-1)).toEqual({ item });
    }
  });

  describe('where nobody takes an item again', () => {
    const examplesOf = (reading: ConstructorParameters<typeof ExampleSource>[2]): Example[] =>
      new ExampleSource(corpus, prompts, reading, 1, trie, 'item-tokens', undefined, 'never')
        .batch(1, size)
        .filter(({ item }) => item !== undefined);

    it('are told from what the user had not taken by then', () => {
      const asked = examplesOf({ embedding: true, titles: 0 }).filter(asksItem);
      expect(asked.length).toBeGreaterThan(0);
      for (const { history, items } of asked) {
        const { user, end } = history!;
        const before = Array.from({ length: end }, (_, at) => itemAt(user, at));
        expect(items!.map(({ item, excluded }) => [item, [...excluded!]])).toEqual([[itemAt(user, end), before]]);
      }
    });

    it('of a text prompt are so behind every title', () => {
      const examples = examplesOf({ embedding: false, titles: 3 });
      expect(examples.length).toBeGreaterThan(0);
      for (const { promptIds, items } of examples) {
        const shown = tokenizer.decode(promptIds).split('\n').slice(0, -1);
        const had = items!.map(({ excluded }) => Array.from(excluded!, (item) => corpus.titles[item]));
        // Behind the i-th title the user had all that is shown up to it; behind the question, all that is shown.
        for (const [i] of shown.entries()) expect(had[i].slice(-(i + 1))).toEqual(shown.slice(0, i + 1));
        expect(had.at(-1)!.slice(-shown.length)).toEqual(shown);
        // One more each time, and never what is asked for.
        for (const [i, { item, excluded }] of items!.entries()) {
          expect([...excluded!]).not.toContain(item);
          expect(had[i]).toHaveLength(had[0].length + Math.min(i, shown.length - 1));
        }
      }
    });
  });

  it('for validation name the validation item alone, and leave out what came before it', () => {
    for (const titles of [0, 3]) {
      const source = (embedding: boolean) => new ExampleSource(corpus, prompts, { embedding, titles }, 1, trie, 'item-tokens');
      const most = { most: 10, tokens: 1000 };
      const moments = source(true).validation(most);
      for (const [i, { items, item, answerIds }] of source(titles === 0)
        .validation(most)
        .entries()) {
        const { user, end } = moments[i].history!;
        const before = Array.from({ length: end }, (_, at) => itemAt(user, at));
        expect(items).toEqual([{ item, excluded: Int32Array.from(before) }]);
        expect(answerIds).toEqual([]);
      }
    }
  });

  it('for validation are many where prompts are short, and a fixed number where they are long', () => {
    const source = new ExampleSource(corpus, prompts, { embedding: true, titles: 0 }, 1, trie, 'item-tokens');
    const [{ promptIds }] = source.validation({ most: 1, tokens: 0 });
    const all = corpus.split.validation.length;
    expect(source.validation({ most: all, tokens: Infinity })).toHaveLength(all);
    expect(source.validation({ most: all, tokens: 0 })).toHaveLength(Math.min(all, validatedUsers));
    const few = validatedUsers + 2;
    expect(source.validation({ most: all, tokens: few * promptIds.length })).toHaveLength(Math.min(all, few));
  });
});

describe('the favourite genre', () => {
  let service: Corpus;
  let favourites: FavouriteGenres;
  let asking: Prompts;
  beforeAll(async () => {
    const dataset = await openSource(await smallFilmService(), 1);
    service = await loadCorpus(dataset, await fitTokenizer(dataset));
    favourites = new FavouriteGenres(service);
    asking = new Prompts(tokenizer, service.titles);
  });
  const size = { users: 6, moments: 3, reach: 100 };
  const sourceOf = (embedding: boolean, naming: 'title' | 'item-tokens' = 'item-tokens'): ExampleSource =>
    new ExampleSource(service, asking, { embedding, titles: embedding ? 0 : 3 }, 1, trie, naming);

  it('is the one that the evaluation asks for', () => {
    const task = favouriteGenre(service.log);
    expect(favourites.genres).toEqual(task.labels);
    const found = task.cases.map(({ user }) => favourites.of(user, service.log.offsets[user + 1] - service.log.offsets[user]));
    expect(found).toEqual(Array.from(task.truth));
    expect(new Set(found).size).toBe(3);
    expect(favourites.of(0, 0)).toBeUndefined();
  });

  it('is asked for in a part of the examples, in words, and by its token where genres have some', () => {
    const asksGenre = ({ promptIds }: Example): boolean => tokenizer.decode(promptIds).endsWith(genreQuestion);
    for (const naming of ['title', 'item-tokens'] as const) {
      const batches = Array.from({ length: 10 }, (_, i) => sourceOf(true, naming).batch(i + 1, size)).flat();
      const asked = batches.filter(asksGenre);
      expect(asked.length).toBeGreaterThan(5);
      for (const example of asked) {
        const { user, end } = example.history!;
        const label = favourites.of(user, end)!;
        expect(answerOf(example)).toBe(favourites.genres[label]);
        expect(example.labels).toEqual(naming === 'title' ? undefined : [{ label }]);
      }
    }
  });

  it('has the largest share at the moments of the training events that rows of its tokens are fitted to, the same ones for the same step', () => {
    const examples = sourceOf(true).genreShares(2, size);
    expect(examples).toHaveLength(18);
    for (const { history, scores, promptIds } of examples) {
      const { user, end } = history!;
      expect(end).toBeLessThanOrEqual(service.train.offsets[user + 1] - service.train.offsets[user]);
      expect(Array.from(scores).indexOf(Math.max(...Array.from(scores)))).toBe(favourites.of(user, end));
      expect(Array.from(scores).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
      expect(promptIds).toEqual(asking.question(genreQuestion));
    }
    expect(sourceOf(true).genreShares(2, size)).toEqual(examples);
    const texts = sourceOf(false).genreShares(2, size);
    expect(texts.map(({ scores }) => scores)).toEqual(examples.map(({ scores }) => scores));
    expect(texts.every(({ history }) => history === undefined)).toBe(true);
  });

  it('is told of every user, at the end of what is known, before it is told of one again', () => {
    const { offsets } = service.train;
    const lengths = Array.from({ length: offsets.length - 1 }, (_, user) => offsets[user + 1] - offsets[user]);
    const moments = Array.from({ length: Math.ceil((2 * lengths.length) / 18) }, (_, i) =>
      sourceOf(true).genreShares(i + 1, size),
    )
      .flat()
      .map(({ history }) => history!);
    const [first, second] = [moments.slice(0, lengths.length), moments.slice(lengths.length, 2 * lengths.length)];
    for (const round of [first, second]) expect(new Set(round.map(({ user }) => user)).size).toBe(lengths.length);
    expect(first.map(({ user }) => user)).not.toEqual(lengths.map((_, user) => user));
    for (const { user, end } of first) expect(end).toBe(lengths[user]);
    for (const { user, end } of second) expect(end).toBeGreaterThan(Math.floor(lengths[user] / 2));
    expect(second.some(({ user, end }) => end < lengths[user])).toBe(true);
  });

  it('is validated as it is tested: by all up to the validation item, asked of who sees what was before it', () => {
    const examples = sourceOf(true).genreValidation({ most: 10, tokens: 1000 });
    expect(examples).toHaveLength(10);
    for (const { history, labels } of examples) {
      const { user, end } = history!;
      expect(end).toBe(service.log.offsets[user + 1] - service.log.offsets[user] - 2);
      expect(labels).toEqual([{ label: favourites.of(user, end + 1) }]);
    }
  });
});
