import {
  choiceWeights,
  type ItemAnswer,
  type LabelAnswer,
  type PrefixTrie,
  type ScoredExample,
  type TokenDistribution,
} from '@user-llm/cross-attention';
import { Random } from '@user-llm/onnx-autograd';
import type { Repeats } from '@user-llm/user-encoder';
import type { Corpus } from './corpus.js';
import { FavouriteGenres } from './favourite-genres.js';
import { genreQuestion, nextQuestions, type Prompts } from './prompts.js';
import type { Summaries, SummaryKind } from './summaries/summaries.js';

/** Which part of a user's log an example may see: events 0 .. end - 1. The encoder counts them in the columns it was given. */
export interface HistoryReference {
  readonly user: number;
  readonly end: number;
}

export interface Example {
  readonly history?: HistoryReference;
  /** The item that is the answer. */
  readonly item?: number;
  readonly promptIds: number[];
  /** The answer in words; empty where the item's token alone is asked for. */
  readonly answerIds: number[];
  /** Items that are named by their tokens, the answer the last of them. */
  readonly items?: ItemAnswer[];
  /** The favourite genre, named by its token. */
  readonly labels?: LabelAnswer[];
  /** Weight of each token of the answer: less where the title leaves no choice. */
  readonly answerWeights?: number[];
  /** What the tokens should be where a teacher says it. */
  readonly answerDistributions?: (TokenDistribution | undefined)[];
  /** Weight of the prompt's own tokens in the loss. */
  readonly promptWeight?: number;
}

/** What a system reads beside the question. */
export interface Reading {
  readonly embedding: boolean;
  /** How many of the last titles stand in the prompt. */
  readonly titles: number;
  /** The whole history in a paragraph, in place of titles. */
  readonly summary?: SummaryKind;
}

/** Users whose validation items the systems are held against while they are trained or mixed with a retriever. */
export const validatedUsers = 96;

/** The validation items of some users, drawn with the seed: what was before them. */
export const validationMoments = ({ split }: Corpus, seed: number, count: number): HistoryReference[] =>
  Random.of(seed, 'validation')
    .shuffle([...split.validation])
    .slice(0, count)
    .map(({ user, from, to }) => ({ user, end: to - from }));

/** The weight of a token that the titles leave no choice about, next to 1 where they do. */
const certainWeight = 0.05;

export const answerWeights = (titles: PrefixTrie, answerIds: readonly number[]): number[] =>
  choiceWeights(titles, answerIds, certainWeight);

/** How large a batch is: so many users, so many moments of each, at most `reach` events apart. */
export interface BatchSize {
  readonly users: number;
  readonly moments: number;
  readonly reach: number;
}

/** How many validation examples there are: at most so many, of so many tokens of prompts. */
export interface ValidationLimits {
  readonly most: number;
  readonly tokens: number;
}

/** How a model answers which item comes next: in words, or by the item's token (and now and then in words). */
export type Naming = 'title' | 'item-tokens';

/** Where items have tokens, every n-th step asks for titles too: the model also talks, and titles can be ranked as well. */
const stepsPerWordedStep = 4;

const genreShare = 0.1;
const withoutUserShare = 0.05;

/**
 * Training examples as a function of the step, so that a resumed run sees the same ones: moments drawn from the training part of
 * the log, each asking for the item that came next (and now and then for the favourite genre). Moments of one user are drawn together,
 * since they share one pass of the encoder.
 */
export class ExampleSource {
  private readonly cumulative: Float64Array;
  private readonly favourites: FavouriteGenres;
  /** Users who chose something, in the order in which their favourite genres are told. */
  private readonly told: readonly number[];

  constructor(
    private readonly corpus: Corpus,
    private readonly prompts: Prompts,
    private readonly reading: Reading,
    private readonly seed: number,
    /** The titles that an answer is one of, for every system alike. */
    private readonly titles: PrefixTrie,
    private readonly naming: Naming = 'title',
    /** Where the reading has a summary. */
    private readonly summaries?: Summaries,
    /** Whether users take items again; where they do not, an item is told from those that the user has not taken. */
    private readonly repeats: Repeats = 'allowed',
  ) {
    const { offsets } = corpus.train;
    this.cumulative = new Float64Array(offsets.length - 1);
    let total = 0;
    for (let user = 0; user < this.cumulative.length; user++)
      this.cumulative[user] = total += Math.max(0, offsets[user + 1] - offsets[user] - 1);
    this.favourites = new FavouriteGenres(corpus);
    const users = Array.from({ length: this.cumulative.length }, (_, user) => user);
    this.told = Random.of(seed, 'genres').shuffle(users.filter((user) => offsets[user + 1] > offsets[user]));
  }

  /** Moments that can be asked about. */
  get size(): number {
    return this.cumulative.at(-1) ?? 0;
  }

  /** Genres that a favourite is one of. */
  get genres(): readonly string[] {
    return this.favourites.genres;
  }

  /** `users` users, each with `moments` moments; where there are summaries of some moments alone, as many of these as users. */
  batch(step: number, size: BatchSize): Example[] {
    const random = Random.of(this.seed, 'examples', step);
    const inWords = this.naming === 'title' || step % stepsPerWordedStep === 0;
    return Array.from(this.moments(random, size), ({ user, end }) => this.example(user, end, random, inWords));
  }

  /**
   * The question for the favourite genre, of as many users as a batch has examples, each with the genres' shares in what the user had chosen by
   * then: the favourite has the largest, and the others say more of a user than that they are not it. Moments without a genre are left out.
   */
  genreShares(step: number, size: BatchSize): ScoredExample<HistoryReference>[] {
    const asked: ScoredExample<HistoryReference>[] = [];
    const moments = this.summaries?.moments
      ? this.moments(Random.of(this.seed, 'genres', step), size)
      : this.everyUser(step, size.users * size.moments);
    for (const { user, end } of moments) {
      const scores = this.favourites.shares(user, end);
      if (scores === undefined) continue;
      const { history, promptIds } = this.build(user, end, genreQuestion, '', this.reading);
      asked.push({ ...(history && { history }), promptIds, scores });
    }
    return asked;
  }

  private *moments(random: Random, { users, moments, reach }: BatchSize): Generator<HistoryReference> {
    const given = this.summaries?.moments;
    for (let i = 0; i < users; i++) {
      if (given !== undefined) {
        yield given[random.integer(given.length)];
        continue;
      }
      const user = this.drawUser(random);
      const length = this.corpus.train.offsets[user + 1] - this.corpus.train.offsets[user];
      // The moments lie within one window of the encoder, anywhere in the log.
      const last = 1 + random.integer(length - 1);
      const first = Math.max(1, last - reach);
      for (let j = 0; j < moments; j++) yield { user, end: j === 0 ? last : first + random.integer(last - first + 1) };
    }
  }

  /**
   * Users one after the other, at the end of the training part of their log, as they will be asked about; once all had their turn, at moments
   * of its second half.
   */
  private *everyUser(step: number, count: number): Generator<HistoryReference> {
    const { told } = this;
    if (told.length === 0) return;
    const { offsets } = this.corpus.train;
    for (let place = (step - 1) * count; place < step * count; place++) {
      const user = told[place % told.length];
      const length = offsets[user + 1] - offsets[user];
      const back = Random.of(this.seed, 'genres', place).integer(Math.ceil(length / 2));
      yield { user, end: place < told.length ? length : length - back };
    }
  }

  /**
   * The validation items of some users, drawn with the seed: `validatedUsers`, and more, up to `most`, as long as their prompts are no more
   * than `tokens` tokens.
   */
  validation(limits: ValidationLimits): Example[] {
    return this.heldOut(limits, (user, end) => {
      // The loss of the answer alone, so that systems with and without titles in the prompt can be compared.
      const example = this.nextItem(user, end, nextQuestions[0], this.reading, this.naming === 'title');
      const excluded = this.shown(user, end, Infinity).filter((item) => item >= 0);
      const items = example.items?.slice(-1).map((answer) => ({ ...answer, excluded }));
      return { ...example, promptWeight: 0, ...(items && { items }) };
    });
  }

  /** As `validation`: which genre was the favourite once the validation item was chosen, asked of who sees what was before it. */
  genreValidation(limits: ValidationLimits): Example[] {
    return this.heldOut(limits, (user, end) => {
      const label = this.favourites.of(user, end + 1);
      if (label === undefined) return undefined;
      const asked = this.build(user, end, genreQuestion, '', this.reading);
      return { ...asked, answerIds: [], answerWeights: undefined, promptWeight: 0, labels: [{ label }] };
    });
  }

  private heldOut({ most, tokens }: ValidationLimits, ask: (user: number, end: number) => Example | undefined): Example[] {
    const examples: Example[] = [];
    let left = tokens;
    for (const { user, end } of validationMoments(this.corpus, this.seed, most)) {
      const example = ask(user, end);
      if (example === undefined) continue;
      left -= example.promptIds.length;
      if (left < 0 && examples.length >= validatedUsers) break;
      examples.push(example);
    }
    return examples;
  }

  private drawUser(random: Random): number {
    const target = random.next() * this.size;
    let low = 0;
    let high = this.cumulative.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cumulative[middle] > target) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private example(user: number, end: number, random: Random, inWords: boolean): Example {
    if (this.favourites.genres.length > 0 && random.next() < genreShare) {
      const place = this.favourites.of(user, end);
      if (place !== undefined) {
        const inWords = this.build(user, end, genreQuestion, this.favourites.genres[place], this.reading);
        return this.naming === 'title' ? inWords : { ...inWords, labels: [{ label: place }] };
      }
    }
    const question = random.next() < 0.5 ? nextQuestions[0] : nextQuestions[random.integer(nextQuestions.length)];
    // Without a user the model learns what is popular, which is what it answers a stranger.
    const reading = this.reading.embedding && random.next() < withoutUserShare ? { embedding: false, titles: 0 } : this.reading;
    return this.nextItem(user, end, question, reading, inWords);
  }

  private nextItem(user: number, end: number, question: string, reading: Reading, inWords: boolean): Example {
    const { log, titles } = this.corpus;
    const item = log.items[log.offsets[user] + end];
    if (item < 0) return this.build(user, end, question, '', reading);
    const example = { ...this.build(user, end, question, titles[item], reading), item };
    if (this.naming === 'title') return example;
    const items = this.itemAnswers(example, user, end, question, reading);
    // Of a prompt, the tokens of its titles teach little beside the items that they are the names of.
    return inWords ? { ...example, items } : { ...example, items, answerIds: [], answerWeights: undefined, promptWeight: 0 };
  }

  /** The item after the question, and in a text prompt, whose titles are targets too, the one after each title. */
  private itemAnswers(
    example: Example & { item: number },
    user: number,
    end: number,
    question: string,
    reading: Reading,
  ): ItemAnswer[] {
    const asked = { item: example.item, ...this.takenBefore(user, end) };
    if (example.promptWeight === undefined) return [asked];
    const first = Math.max(0, end - reading.titles);
    const shown = Array.from(this.shown(user, end, reading.titles), (item, i) => ({ item, at: first + i })).filter(
      ({ item }) => item >= 0,
    );
    const ends = this.prompts.titleEnds(example.promptIds, question, shown.length);
    const next = (i: number): ItemAnswer =>
      i + 1 < shown.length ? { item: shown[i + 1].item, ...this.takenBefore(user, shown[i + 1].at) } : asked;
    return [...ends.map((after, i) => ({ ...next(i), after })), asked];
  }

  /** What an answer is not told from: the items of a user's first `end` events, where nobody takes one again. */
  private takenBefore(user: number, end: number): Pick<ItemAnswer, 'excluded'> {
    return this.repeats === 'never' ? { excluded: this.shown(user, end, Infinity).filter((item) => item >= 0) } : {};
  }

  private shown(user: number, end: number, titles: number): Int32Array {
    const { log } = this.corpus;
    const start = log.offsets[user];
    return log.items.subarray(start + Math.max(0, end - titles), start + end);
  }

  private build(user: number, end: number, question: string, answer: string, reading: Reading): Example {
    const promptIds =
      reading.summary !== undefined
        ? this.prompts.withText(this.summaries!.of(user, end), question)
        : reading.titles > 0
          ? this.prompts.withHistory(this.shown(user, end, reading.titles), question)
          : this.prompts.question(question);
    const answerIds = this.prompts.answer(answer);
    return {
      ...(reading.embedding ? { history: { user, end } } : {}),
      promptIds,
      answerIds,
      answerWeights: answerWeights(this.titles, answerIds),
      // A text prompt is a list of titles that were chosen one after another: each is a target too, which makes the baseline stronger.
      ...(!reading.embedding && reading.titles > 0 ? { promptWeight: 1 } : {}),
    };
  }
}
