import type { PreTrainedModel } from '@huggingface/transformers';
import type * as ort from 'onnxruntime-node';
import { checkCount } from '../check-count.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Candidate } from '../items/item-tokens.js';
import { byItemTokens, byLabelTokens } from '../ranking/by-item-tokens.js';
import { byRetrieval } from '../ranking/by-retrieval.js';
import { byTitle } from '../ranking/by-title.js';
import type { CatalogueRanker } from '../ranking/catalogue-ranker.js';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import { AskedPrompt } from './asked-prompt.js';
import type { NamedScorers } from './asked-prompt.js';
import { BranchingScorer } from './branching-scorer.js';
import { checkSettings } from './check-settings.js';
import { ServingEngine } from './engine.js';
import type { ServedParts, ServeOptions } from './engine.js';
import { generationOf } from './generation.js';
import type { Answer, Generation } from './generation.js';
import { InPlaceSession } from './in-place-session.js';
import { NamedScorer } from './named-scorer.js';
import { OpenedOnce } from './opened-once.js';
import type { Prefix } from './prefix.js';
import { readPrompt } from './prompt-reader.js';
import type { ReadPrompt } from './prompt-reader.js';
import type { GenerateRequest, PrefixRequest, Prompt, RankRequest, Ranking, ScheduledRequest } from './request.js';
import { RequestGate } from './request-gate.js';
import { RequestScheduler } from './scheduler.js';
import type { SchedulerOptions } from './scheduler.js';
import { generateOnce, transformersModel } from './transformers-generate.js';
import { tensorOf } from './user-state.js';
import type { ReadableEmbedding, StoredUserState, UserState } from './user-state.js';

/**
 * A model that answers: text by transformers.js's `generate`, rankings by a `CatalogueRanker`. The first ranking by title opens a second
 * onnxruntime session, whose graph lets titles branch behind one prompt. A few requests run at once (`atOnce`), the others wait. Runs block
 * the event loop; a server opens it in a worker.
 */
export class ServedModel {
  readonly #branching: OpenedOnce<ort.InferenceSession>;
  readonly #named: NamedScorers;
  readonly #schedulers = new Set<RequestScheduler>();
  readonly #gate: RequestGate;
  #closing: Promise<void> | undefined;

  private constructor(
    private readonly engine: ServingEngine,
    private readonly session: InPlaceSession,
    private readonly model: PreTrainedModel,
    { branching, items, labels }: Pick<ServedParts, 'branching' | 'items' | 'labels'>,
    { atOnce = 4 }: ServeOptions,
  ) {
    this.#gate = new RequestGate(atOnce);
    this.#branching = new OpenedOnce(() => branching(engine.openGraph));
    // One row of states: waking a second thread would take longer.
    const options = { ...engine.options, intraOpNumThreads: 1 };
    this.#named = {
      ...(items && { item: new NamedScorer('item', items, options) }),
      ...(labels && { label: new NamedScorer('label', labels, options) }),
    };
  }

  static async create(parts: ServedParts, options: ServeOptions = {}): Promise<ServedModel> {
    const engine = await ServingEngine.open(parts, options);
    const session = new InPlaceSession(engine.session, parts.config);
    return new ServedModel(engine, session, transformersModel(parts.config, session), parts, options);
  }

  get config(): DecoderConfig {
    return this.engine.config;
  }

  get tokenizer(): TextTokenizer {
    return this.engine.tokenizer;
  }

  /** The items that have a token of their own, by their places in a ranking by item tokens. */
  get items(): readonly Candidate[] {
    return this.#named.item?.items ?? [];
  }

  /** The labels that have a token of their own, by their places in a ranking by label tokens. */
  get labels(): readonly Candidate[] {
    return this.#named.label?.items ?? [];
  }

  /** Requests that are under way and that wait, those of its schedulers too. */
  get load(): number {
    return Array.from(this.#schedulers).reduce((sum, scheduler) => sum + scheduler.load, this.#gate.load);
  }

  /** Hash of the encoder whose embeddings the model reads; undefined where it reads none. */
  get encoder(): string | undefined {
    return this.engine.reader?.encoder;
  }

  /** Under which `encoder` a store keeps what `storedUserState` gives; undefined where the model reads no users. */
  get userStateEncoder(): string | undefined {
    return this.engine.reader?.identity;
  }

  /**
   * A user as a store of embeddings keeps them ready to be read: the keys and values of every cross-attention layer, as the matrix of an
   * encoder called `userStateEncoder`. The rest of a store's record is the embedding's: `store.putMany([embedding, { ...embedding, ...(await
   * served.storedUserState(embedding)) }])`, with every update, since a newer embedding does not replace it. What the store gives back goes
   * into requests as an embedding does, and is computed no more. Rejects as `userState` does.
   */
  storedUserState(user: ReadableEmbedding | UserState): Promise<StoredUserState> {
    return this.engine.storedUserState(user);
  }

  /**
   * A user as the model reads them, once for many requests. Rejects with an `EncoderMismatchError` for what another encoder, or a model
   * with other weights, has made, with a `TypeError` for what is no embedding, for one in int8, which has no scale, and for numbers in another
   * array than their dtype says, and with a `RangeError` for one that holds NaN or Infinity.
   */
  userState(embedding: ReadableEmbedding): Promise<UserState> {
    return this.engine.userState(embedding);
  }

  /** The token ids of a prompt as the model gets them, a soft prompt's placeholders included. */
  promptIds(prompt: Prompt, withUser: boolean): readonly number[] {
    return readPrompt(prompt, withUser, this.engine.parts).ids;
  }

  /**
   * The beginning of a prompt that does not read the user, computed once for all requests whose prompts begin alike: give it to them as
   * `prefix`. Its length is what the model's `blindPrefix` says of this prompt, or `blindTokens`. A `PrefixError` says that nothing
   * of the prompt is blind. A model that reads no users takes any `blindTokens`, so that a long prompt can be kept. A signal stops it between two parts
   * of the prompt.
   */
  prefix(request: PrefixRequest): Promise<Prefix> {
    return this.engine.prefix(request);
  }

  /**
   * Answers a prompt. Throws, before anything runs, a `DoesNotFitError` when prompt and answer are longer than the model's context, and a
   * `RangeError` for `sampling`, which a scheduler reads, and for `settings` that the request makes itself, such as `max_new_tokens`, or that have no effect.
   */
  generate(request: GenerateRequest): Generation {
    const { engine } = this;
    if ((request as Partial<ScheduledRequest>).sampling !== undefined)
      throw new RangeError(
        'sampling is read by a scheduler (served.scheduler().generate) and by worker threads. Give settings of transformers.js here, such as { do_sample: true, temperature: 0.7 }.',
      );
    checkSettings(request.settings);
    const begun = performance.now();
    const prompt = engine.admit(request);
    const answer = async (emit: (piece: string) => void): Promise<Answer> => {
      const user = await engine.readUser(request.user);
      let firstTokenMs = 0;
      let text = '';
      const ids = await generateOnce(this.model, this.tokenizer, {
        prompt,
        session: this.session,
        user: user?.state,
        maxNewTokens: prompt.maxNewTokens,
        settings: request.settings ?? {},
        signal: request.signal,
        onToken: () => (firstTokenMs ||= performance.now() - begun),
        onText: (piece) => {
          text += piece;
          emit(piece);
        },
      });
      const flops = engine.answerFlops(prompt, ids.length) + (user?.flops ?? 0);
      return {
        ids,
        text,
        usage: { promptTokens: prompt.ids.length, answerTokens: ids.length, flops },
        timings: { userMs: user?.milliseconds ?? 0, firstTokenMs, totalMs: performance.now() - begun },
      };
    };
    return generationOf((emit) => engine.during(() => this.#gate.run(() => answer(emit), request.signal)), this.tokenizer);
  }

  /**
   * Answers many requests at once on this model's session, their next tokens in one run. For a server; the caller need not dispose it, the
   * model does, but one that is no longer needed is held until then.
   */
  scheduler(options: SchedulerOptions = {}): RequestScheduler {
    this.engine.assertAlive();
    const scheduler = new RequestScheduler(this.engine, options, (disposed) => this.#schedulers.delete(disposed));
    this.#schedulers.add(scheduler);
    return scheduler;
  }

  /**
   * Ranks a catalogue after a prompt; by the titles of a trie where no other way is given, and with `retrieve` the best of a retriever alone. Items of the result are places in the catalogue.
   * Rejects, before anything runs, with a `DoesNotFitError` where the prompt and the longest title are longer than the model's context, and
   * with a `RangeError` where nothing says what is ranked.
   */
  rank(request: RankRequest): Promise<Ranking> {
    return this.engine.during(() => this.#rank(request));
  }

  async #rank(request: RankRequest): Promise<Ranking> {
    const { engine } = this;
    const begun = performance.now();
    const { top, signal } = request;
    checkCount('top', top);
    const anew = this.#rankerOf(request);
    const ranker = request.retrieve === undefined ? anew : byRetrieval({ ...request.retrieve, ranker: anew });
    const prompt = engine.readPrompt(request);
    engine.assertFits(prompt.ids.length + ranker.depth);
    return this.#gate.run(() => this.#rankBy(ranker, request, prompt, begun), signal);
  }

  async #rankBy(ranker: CatalogueRanker, request: RankRequest, prompt: ReadPrompt, begun: number): Promise<Ranking> {
    const { engine } = this;
    const { top, exclude = [], signal } = request;
    const user = await engine.readUser(request.user);
    const userMs = performance.now() - begun;
    const sessions = { prompt: engine.session, branching: () => this.#branching.get() };
    const scorer = new BranchingScorer(sessions, this.config, prompt, user && tensorOf(user.state), signal);
    const asked = new AskedPrompt(scorer, this.#named);
    const ranked = await ranker.rank(asked, { top, exclude, ...(signal === undefined ? {} : { signal }) });
    return {
      ...ranked,
      way: ranker.way,
      promptTokens: prompt.ids.length,
      flops: engine.flops(scorer.calls) + (user?.flops ?? 0) + 2 * this.config.hiddenSize * asked.scored,
      firstTokenMs: userMs + scorer.promptMilliseconds,
      totalMs: performance.now() - begun,
    };
  }

  #rankerOf(request: RankRequest): CatalogueRanker {
    if (request.by === 'item-tokens') return byItemTokens(this.items.length);
    if (request.by === 'label-tokens') return byLabelTokens(this.labels.length);
    if (typeof request.by === 'object' && (request.by as CatalogueRanker | null) !== null) return request.by;
    if (request.by === undefined && (request.trie as PrefixTrie | undefined) !== undefined) return byTitle(request.trie, request);
    // Without types all else comes here too, such as the request of a LanguageModel.
    const { by } = request as { readonly by?: unknown };
    throw new RangeError(
      `${by === undefined ? 'There is nothing to rank' : `by cannot be '${String(by)}'`}: give trie, which model.trie(titles) makes once per catalogue, or by: 'item-tokens', 'label-tokens' or a ranker. Only rank of a LanguageModel takes candidates.`,
    );
  }

  /** Takes no more requests. Answers of its schedulers are stopped; what else was asked is waited for. Resolves when the memory is given back. */
  dispose(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.engine.close();
    await Promise.all(Array.from(this.#schedulers, (scheduler) => scheduler.dispose()));
    await this.engine.release();
    await (await this.#branching.opened())?.release();
    await this.#named.item?.dispose();
    await this.#named.label?.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}
