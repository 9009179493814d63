import {
  byItemTokens,
  byRetrieval,
  byTitle,
  DoesNotFitError,
  LanguageModel,
  PrefixTrie,
  type Prefix,
  type CatalogueRanker,
  type Ranking,
  type ServedModel,
} from '@user-llm/cross-attention';
import type { EmbeddingStore } from '@user-llm/embedding-store';
import type { EventColumns } from '@user-llm/event-tokenizer';
import { UNKNOWN_ITEM, type DoesNotFit, type System } from '@user-llm/evaluation';
import type { Repeats, UserEmbedding, UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { UsageError } from '../errors.js';
import { genreQuestion, nextQuestions, Prompts } from '../prompts.js';
import type { Summaries } from '../summaries/summaries.js';
import type { SystemSpec } from '../system-specs.js';
import type { Retrieved, Retriever } from './retriever.js';

/** How wide the beam is; a ranking is as deep. */
export const beamWidth = 50;

/** How many of the retriever's items are ranked anew. */
export const retrievedItems = 100;

/** What a system knows of users besides its prompts. */
export interface SystemUsers {
  /** Without one, every user is encoded anew. */
  readonly store?: EmbeddingStore;
  readonly encoder: UserEncoder;
}

/** How a system ranks where it does not rank the whole catalogue itself. */
export interface Retrieval {
  readonly retriever: Retriever;
  /** The retriever's share in the order; see `byRetrieval`. */
  readonly share: number;
}

/** What a system is opened with. */
export interface SystemResources {
  readonly users?: SystemUsers;
  readonly retrieval?: Retrieval;
  /** Where the reading has a summary. */
  readonly summaries?: Summaries | undefined;
  /** Whether users take items again, as the model was trained for; see `AdaptationExample`. Default `allowed`. */
  readonly repeats?: Repeats | undefined;
  /** Threads of one operation; the machine's cores by default. */
  readonly threads?: number;
}

/** A language-model system that is open for requests. */
export class LanguageSystem {
  private readonly titles: PrefixTrie;
  private readonly prompts: Prompts;
  private readonly labels = new Map<string, PrefixTrie>();

  private constructor(
    readonly spec: SystemSpec,
    private readonly corpus: Corpus,
    readonly served: ServedModel,
    private readonly resources: SystemResources,
  ) {
    this.prompts = new Prompts(served.tokenizer, corpus.titles);
    this.titles = this.trie(corpus.titles);
  }

  static async open(spec: SystemSpec, folder: string, corpus: Corpus, resources: SystemResources = {}): Promise<LanguageSystem> {
    const { threads } = resources;
    return new LanguageSystem(
      spec,
      corpus,
      await LanguageModel.open(folder, threads === undefined ? {} : { threads }),
      resources,
    );
  }

  private trie(texts: readonly string[]): PrefixTrie {
    const { tokenizer } = this.served;
    return PrefixTrie.build(
      texts.map((text) => tokenizer.encode(text)),
      tokenizer.eos,
    );
  }

  /** The user's embedding: from the store, or encoded now when it is not there, or when less of the user is to be known. */
  async embedding(userIndex: number, events = this.corpus.known): Promise<UserEmbedding | undefined> {
    const { users } = this.resources;
    if (!users || !this.spec.reading.embedding) return undefined;
    const { store, encoder } = users;
    if (events !== this.corpus.known) return encoder.encodeUser(events, userIndex);
    const found = await store?.get({ user: events.users[userIndex] }, { encoder: encoder.hash });
    if (found?.status === 'found') return found.embedding as UserEmbedding;
    // Whoever is new is encoded within the request; what cannot be used is no reason to go on without the store.
    if (found?.status === 'damaged' || found?.status === 'other-encoder')
      throw new UsageError(
        `the store's record of a user ${found.status === 'damaged' ? `is damaged (${found.reason})` : 'was made by another encoder'}; remove the store's folder, users, from the run folder and run: user-llm encode`,
      );
    return encoder.encodeUser(events, userIndex);
  }

  promptIds(history: Int32Array, question: string, titles = this.spec.reading.titles): number[] {
    if (titles === 0) return this.prompts.question(question);
    return this.prompts.withHistory(history.subarray(Math.max(0, history.length - titles)), question);
  }

  /** The prompt about a user of whom `events` are known: with a summary, titles, or the question alone. */
  private promptOf(userIndex: number, history: Int32Array, question: string, { events, titles }: Known): number[] {
    if (this.spec.reading.summary === undefined) return this.promptIds(history, question, titles);
    const end = events.offsets[userIndex + 1] - events.offsets[userIndex];
    return this.prompts.withText(this.resources.summaries!.of(userIndex, end), question);
  }

  /** Ranks the whole catalogue after the user's history: in the run's way, or by title, or as it is given. */
  async rank(
    userIndex: number,
    history: Int32Array,
    { by, events = this.corpus.known, titles, prefix, ...options }: RankOptions,
  ): Promise<Ranking> {
    const began = performance.now();
    const retrieved = by === undefined ? await this.resources.retrieval?.retriever.retrieve(userIndex, events) : undefined;
    const retrievedMs = performance.now() - began;
    const ranking = await this.served.rank({
      promptIds: this.promptOf(userIndex, history, nextQuestions[0], { events, titles }),
      user: await this.embedding(userIndex, events),
      by: this.ranker(by, options.top, retrieved),
      prefix,
      ...options,
    });
    if (retrieved === undefined) return ranking;
    return { ...ranking, flops: ranking.flops + retrieved.flops, totalMs: ranking.totalMs + retrievedMs };
  }

  /** Whether one pass scores every item: by item tokens, and nothing is retrieved. */
  get scoresAll(): boolean {
    return this.served.items.length > 0 && this.resources.retrieval === undefined;
  }

  /** The log-probability of every item's token, `[items]`; see `scoresAll`. Where users take nothing again, the history has the lowest. */
  async scores(userIndex: number, history: Int32Array, options: Omit<RankOptions, 'by' | 'exclude' | 'top'>): Promise<Ranking> {
    const { length } = this.served.items;
    const ranking = await this.rank(userIndex, history, { ...options, by: everyItem(length), exclude: [], top: length });
    if (this.resources.repeats === 'never') lower(ranking.scores, history);
    return ranking;
  }

  private ranker(by: RankOptions['by'], top: number, retrieved: Retrieved | undefined): CatalogueRanker {
    if (typeof by === 'object') return by;
    if (by === 'title' || by === 'exact-title') return this.titleRanker(top, by === 'exact-title');
    const { items } = this.served;
    const ranker = items.length > 0 ? byItemTokens(items.length) : this.titleRanker(top, false);
    if (retrieved === undefined) return ranker;
    const { share } = this.resources.retrieval!;
    return byRetrieval({ retriever: () => retrieved.scores, candidates: retrievedItems, ranker, retrieverShare: share });
  }

  private titleRanker(top: number, exact: boolean): CatalogueRanker {
    return byTitle(this.titles, { among: 'vocabulary', width: Math.max(beamWidth, top), exact });
  }

  /** Which of the labels answers the question for the favourite genre: by their tokens where all have one, or in words. */
  async classify(
    userIndex: number,
    history: Int32Array,
    labels: readonly string[],
    signal?: AbortSignal,
  ): Promise<Ranking & { readonly label: string }> {
    const asked = {
      promptIds: this.promptOf(userIndex, history, genreQuestion, { events: this.corpus.known }),
      user: await this.embedding(userIndex),
      top: 1,
      ...(signal ? { signal } : {}),
    };
    const named = this.served.labels.map(({ id }) => id);
    const wanted = new Set(labels);
    const others = named.flatMap((label, place) => (wanted.has(label) ? [] : [place]));
    if (named.length - others.length === wanted.size) {
      const ranking = await this.served.rank({ ...asked, by: 'label-tokens', exclude: others });
      return { ...ranking, label: named[ranking.items[0]] };
    }
    const key = labels.join('\n');
    let trie = this.labels.get(key);
    if (!trie) this.labels.set(key, (trie = this.trie(labels)));
    const ranking = await this.served.rank({ ...asked, trie, among: 'vocabulary' });
    return { ...ranking, label: labels[ranking.items[0]] };
  }

  /** Time to the first token, a store read included, for a prompt with the last `titles` titles. */
  async firstToken(
    promptIds: readonly number[],
    user: UserEmbedding | undefined,
  ): Promise<{ tokens: number; ms: number } | null> {
    this.oneTitle ??= this.trie([this.corpus.titles[0]]);
    try {
      const { promptTokens, firstTokenMs } = await this.served.rank({ promptIds, user, trie: this.oneTitle, top: 1 });
      return { tokens: promptTokens, ms: firstTokenMs };
    } catch (error) {
      if (DoesNotFitError.isInstance(error)) return null;
      throw error;
    }
  }
  private oneTitle: PrefixTrie | undefined;

  async dispose(): Promise<void> {
    await this.served.dispose();
    await this.resources.users?.encoder.dispose();
    await this.resources.retrieval?.retriever.dispose();
  }
}

interface RankOptions {
  readonly exclude: Iterable<number>;
  readonly top: number;
  /** By title, whatever the run's way is, without the retriever, or as a ranker does. Default: the run's way. */
  readonly by?: 'title' | 'exact-title' | 'model' | CatalogueRanker;
  /** What is known of the users. Default: everything but the test items. */
  readonly events?: EventColumns;
  /** How many titles stand in a text prompt, where it is not what the system was trained with. */
  readonly titles?: number | undefined;
  /** The beginning of the prompt, computed before. */
  readonly prefix?: Prefix | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Known {
  readonly events: EventColumns;
  readonly titles?: number | undefined;
}

/** All items in the catalogue's order with their scores: what is asked for every item need not be sorted. */
function everyItem(count: number): CatalogueRanker {
  const ranker = byItemTokens(count);
  const items = Int32Array.from({ length: count }, (_, item) => item);
  return { ...ranker, rank: async (asked, options) => ({ ...(await ranker.score(asked, items, options)), items }) };
}

/** A language-model system as the evaluation asks it; opened at the first request, closed by `close`. */
export function languageSystem(
  spec: SystemSpec,
  open: () => Promise<LanguageSystem>,
  about: { examplesSeen: number; notes: string[] },
): System & { close(): Promise<void> } {
  let opened: Promise<LanguageSystem> | undefined;
  const ready = (): Promise<LanguageSystem> => (opened ??= open());
  return {
    name: spec.name,
    kind: spec.reading.embedding ? 'system' : 'baseline',
    ...about,
    // Opening is not part of a request.
    fit: async () => void (await ready()),
    rank: ({ userIndex, history, candidates, exclude, depth, signal }) =>
      orDoesNotFit(async () => {
        const system = await ready();
        if (system.scoresAll) {
          const { scores, promptTokens, flops } = await system.scores(userIndex, known(history.items), { signal });
          return { scores, cost: { tokens: promptTokens, flops } };
        }
        const { items, scores, promptTokens, tokens, flops } = await system.rank(userIndex, known(history.items), {
          exclude,
          top: Math.min(depth, beamWidth),
          signal,
        });
        return {
          items: Array.from(items, (item, i) => ({ id: candidates.ids[item], score: scores[i] })),
          cost: { tokens: promptTokens + tokens, flops },
        };
      }),
    classify: ({ userIndex, history, labels, signal }) =>
      orDoesNotFit(async () => {
        const system = await ready();
        const { label, promptTokens, tokens, flops } = await system.classify(userIndex, known(history.items), labels, signal);
        return { label, cost: { tokens: promptTokens + tokens, flops } };
      }),
    close: async () => {
      await (await opened)?.dispose();
      opened = undefined;
    },
  };
}

/** One that could not be trained, since its prompts are longer than the model's context: it has no answers. */
export function misfitSystem({ name, reading }: SystemSpec, doesNotFit: string): System & { close(): Promise<void> } {
  const answer = (): DoesNotFit => ({ doesNotFit });
  return {
    name,
    kind: reading.embedding ? 'system' : 'baseline',
    rank: answer,
    classify: answer,
    close: () => Promise.resolve(),
  };
}

/** Items get the lowest score of all: a model that learned what is next among the others says nothing of them. */
function lower(scores: Float64Array, items: Int32Array): void {
  const lowest = scores.reduce((a, b) => Math.min(a, b), Infinity);
  for (const item of items) scores[item] = lowest;
}

const known = (items: Int32Array): Int32Array => items.filter((item) => item !== UNKNOWN_ITEM);

async function orDoesNotFit<T>(ask: () => Promise<T>): Promise<T | DoesNotFit> {
  try {
    return await ask();
  } catch (error) {
    if (DoesNotFitError.isInstance(error)) return { doesNotFit: 'does not fit' };
    throw error;
  }
}
