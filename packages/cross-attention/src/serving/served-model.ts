import { availableParallelism } from 'node:os';
import type { PreTrainedModel } from '@huggingface/transformers';
import * as ort from 'onnxruntime-node';
import { placeholdersOf, withPlaceholders } from '../adaptation/text-rows.js';
import { decoderFlops } from '../decoder/flops.js';
import { DoesNotFitError, EncoderMismatchError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Integration, UserShape } from '../integration/integration.js';
import type { Candidate } from '../items/item-tokens.js';
import type { RankedItems } from '../ranking/beam-search.js';
import { byTitle } from '../ranking/by-title.js';
import type { ByTitleOptions } from '../ranking/by-title.js';
import type { CatalogueRanker, RankingWay } from '../ranking/catalogue-ranker.js';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import { Run } from '../run.js';
import type { ChatMessage, TextTokenizer } from '../text/text-tokenizer.js';
import { AskedPrompt } from './asked-prompt.js';
import { BranchingScorer } from './branching-scorer.js';
import { generateOnce, transformersModel } from './generation.js';
import type { Generation, Timings, Usage } from './generation.js';
import { ItemScorer } from './item-scorer.js';
import { UserReader, isUserState } from './user-state.js';
import type { ReadableEmbedding, UserState } from './user-state.js';

/** What is asked: messages for the chat template, a text as it is, or token ids. */
export type Prompt =
  | { readonly messages: readonly ChatMessage[]; readonly prompt?: undefined; readonly promptIds?: undefined }
  | { readonly prompt: string; readonly messages?: undefined; readonly promptIds?: undefined }
  | { readonly promptIds: readonly number[]; readonly messages?: undefined; readonly prompt?: undefined };

interface RequestOptions {
  /** Whose embedding is read; without one the answer is the base model's. */
  readonly user?: ReadableEmbedding | UserState | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type GenerateRequest = Prompt &
  RequestOptions & {
    /** Default 128, or what is left of the context. */
    readonly maxNewTokens?: number;
    /** More of transformers.js's generation settings: `do_sample`, `temperature`, `top_k`, ... Default: greedy. */
    readonly settings?: Readonly<Record<string, unknown>>;
  };

export type RankRequest = Prompt &
  RequestOptions & {
    readonly top: number;
    /** Items, by their place in the catalogue, that are not to be returned. */
    readonly exclude?: Iterable<number>;
  } & (
    | {
        /** How the catalogue is ranked. */
        readonly by: CatalogueRanker;
      }
    | ({
        readonly by?: undefined;
        /** By title: the titles, encoded by this model's tokenizer. */
        readonly trie: PrefixTrie;
      } & ByTitleOptions)
  );

/** A ranking and what it cost. */
export interface Ranking extends RankedItems {
  readonly way: RankingWay;
  readonly promptTokens: number;
  /** Floating-point operations of all matrix products, the user's included. */
  readonly flops: number;
  /** To the end of the prompt (the first token's scores), the user included. */
  readonly firstTokenMs: number;
  readonly totalMs: number;
}

/** What a served model is made of. */
export interface ServedParts {
  readonly config: DecoderConfig;
  readonly tokenizer: TextTokenizer;
  /** `model.onnx` */
  readonly model: Uint8Array;
  /** Where the values lie that the model leaves out; needed while it is opened. */
  readonly valueFolder?: string;
  /** Makes the graph for rankings (`branchingModel`), when the first one is asked for. */
  readonly branching: () => Uint8Array | Promise<Uint8Array>;
  /** Its item tokens, where it has some, with `items.onnx`. */
  readonly items?: { readonly items: readonly Candidate[]; readonly model: Uint8Array };
  /** How it reads users, where it does, with `user.onnx`. */
  readonly user?: {
    readonly integration: Integration;
    readonly shape: UserShape;
    readonly encoder: string;
    readonly model: Uint8Array;
  };
  /** Defaults of `generate`. */
  readonly generation?: Readonly<Record<string, unknown>>;
}

export interface ServeOptions {
  /** Threads of one operation; the machine's cores by default. Divide them among workers. */
  readonly threads?: number;
}

/**
 * A model that answers: text by transformers.js's `generate`, rankings by a `CatalogueRanker`. The first ranking by title opens a second
 * onnxruntime session, whose graph lets titles branch behind one prompt. Runs block the event loop; a server puts it into a worker.
 */
export class ServedModel {
  #disposed = false;
  #branching: Promise<ort.InferenceSession> | undefined;
  // The files' bytes are held no longer than they are needed.
  #makeBranching: ServedParts['branching'] | undefined;
  readonly #items: ItemScorer | undefined;

  private constructor(
    private readonly parts: Pick<ServedParts, 'config' | 'tokenizer' | 'user'>,
    private readonly session: ort.InferenceSession,
    private readonly options: ort.InferenceSession.SessionOptions,
    private readonly model: PreTrainedModel,
    private readonly reader: UserReader | undefined,
    branching: ServedParts['branching'],
    items: ServedParts['items'],
  ) {
    this.#makeBranching = branching;
    // One row of states: waking a second thread would take longer.
    this.#items = items && new ItemScorer(items.items, items.model, { ...options, intraOpNumThreads: 1 });
  }

  static async create(parts: ServedParts, { threads = availableParallelism() }: ServeOptions = {}): Promise<ServedModel> {
    const options: ort.InferenceSession.SessionOptions = {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
    };
    const { config, tokenizer, user } = parts;
    const values = { session: { model_external_initializers_file_folder_path: parts.valueFolder } };
    const session = await ort.InferenceSession.create(
      parts.model,
      parts.valueFolder === undefined ? options : { ...options, extra: values },
    );
    const reader =
      user &&
      (await UserReader.open(
        user.model,
        {
          encoder: user.encoder,
          shape: user.shape,
          packedShape: user.integration.packedShape(config, user.shape),
          flops: 2 * user.shape.userWidth * user.integration.packedShape(config, user.shape).reduce((a, b) => a * b, 1),
        },
        // So little work that waking a second thread would take longer.
        { ...options, intraOpNumThreads: 1 },
      ));
    const model = transformersModel(config, session, parts.generation ?? {});
    return new ServedModel({ config, tokenizer, user }, session, options, model, reader, parts.branching, parts.items);
  }

  get config(): DecoderConfig {
    return this.parts.config;
  }

  get tokenizer(): TextTokenizer {
    return this.parts.tokenizer;
  }

  /** The items that have a token of their own, by their places in a ranking by item tokens. */
  get items(): readonly Candidate[] {
    return this.#items?.items ?? [];
  }

  /** Hash of the encoder whose embeddings the model reads; undefined where it reads none. */
  get encoder(): string | undefined {
    return this.reader?.encoder;
  }

  /** A user as the model reads them, once for many requests. Refuses another encoder's embedding with an `EncoderMismatchError`. */
  async userState(embedding: ReadableEmbedding): Promise<UserState> {
    this.#assertAlive();
    if (this.reader === undefined)
      throw new EncoderMismatchError(
        'none',
        embedding.encoder,
        'This model reads no user embeddings; adapt it to an encoder first.',
      );
    return this.reader.read(embedding);
  }

  /** The token ids of a prompt as the model gets them, a soft prompt's placeholders included. */
  promptIds(prompt: Prompt, withUser: boolean): number[] {
    const ids =
      prompt.promptIds ??
      (prompt.messages === undefined
        ? this.tokenizer.encode(prompt.prompt, { specialTokens: 'parse' })
        : this.tokenizer.chat(prompt.messages));
    if (ids.length === 0) throw new RangeError('The prompt has no tokens; give at least one.');
    const { user } = this.parts;
    if (!withUser || user === undefined) return [...ids];
    return withPlaceholders(ids, placeholdersOf(this.config, user));
  }

  /** Answers a prompt. Throws a `DoesNotFitError` before anything runs when prompt and answer are longer than the model's context. */
  generate(request: GenerateRequest): Generation {
    this.#assertAlive();
    const begun = performance.now();
    const { signal } = request;
    const promptIds = this.promptIds(request, request.user !== undefined);
    const maxNewTokens = request.maxNewTokens ?? Math.max(1, Math.min(128, this.config.contextLength - promptIds.length));
    this.#assertFits(promptIds.length + maxNewTokens);
    const run = new Run<string, { ids: readonly number[]; text: string; usage: Usage; timings: Timings }>(async (emit) => {
      const user = await this.#user(request.user);
      let firstTokenMs = 0;
      let text = '';
      const ids = await generateOnce(this.model, this.tokenizer, {
        promptIds,
        user: user?.state,
        maxNewTokens,
        settings: request.settings ?? {},
        signal,
        onToken: () => (firstTokenMs ||= performance.now() - begun),
        onText: (piece) => {
          text += piece;
          emit(piece);
        },
      });
      const calls = [{ rows: 1, tokens: promptIds.length, past: 0 }];
      for (let i = 1; i < ids.length; i++) calls.push({ rows: 1, tokens: 1, past: promptIds.length + i - 1 });
      return {
        ids,
        text,
        usage: { promptTokens: promptIds.length, answerTokens: ids.length, flops: this.#flops(calls) + (user?.flops ?? 0) },
        timings: { userMs: user?.milliseconds ?? 0, firstTokenMs, totalMs: performance.now() - begun },
      };
    });
    const of = <T>(pick: (result: Awaited<typeof run.result>) => T): Promise<T> => {
      const promise = run.result.then(pick);
      promise.catch(() => undefined);
      return promise;
    };
    return {
      textStream: run,
      text: of(({ text }) => text),
      tokenIds: of(({ ids }) => ids),
      usage: of(({ usage }) => usage),
      timings: of(({ timings }) => timings),
    };
  }

  /** Ranks a catalogue after a prompt; by the titles of a trie where no other way is given. Throws a `DoesNotFitError` like `generate`. */
  async rank(request: RankRequest): Promise<Ranking> {
    this.#assertAlive();
    const begun = performance.now();
    const { top, exclude = [], signal } = request;
    const ranker = request.by ?? byTitle(request.trie, request);
    const promptIds = this.promptIds(request, request.user !== undefined);
    this.#assertFits(promptIds.length + ranker.depth);
    const user = await this.#user(request.user);
    const userMs = performance.now() - begun;
    const packed = user && new ort.Tensor('float32', user.state.packed, [...user.state.shape]);
    const sessions = { prompt: this.session, branching: () => this.#rankingSession() };
    const scorer = new BranchingScorer(sessions, this.config, promptIds, packed);
    const asked = new AskedPrompt(scorer, this.#items);
    const ranked = await ranker.rank(asked, { top, exclude, ...(signal === undefined ? {} : { signal }) });
    const itemFlops = asked.hasScoredItems ? 2 * this.config.hiddenSize * this.items.length : 0;
    return {
      ...ranked,
      way: ranker.way,
      promptTokens: promptIds.length,
      flops: this.#flops(scorer.calls) + (user?.flops ?? 0) + itemFlops,
      firstTokenMs: userMs + scorer.promptMilliseconds,
      totalMs: performance.now() - begun,
    };
  }

  #rankingSession(): Promise<ort.InferenceSession> {
    if (this.#branching === undefined) {
      const make = this.#makeBranching!;
      this.#makeBranching = undefined;
      this.#branching = (async () => ort.InferenceSession.create(await make(), this.options))();
    }
    return this.#branching;
  }

  /** What the session is fed for a user, or for none; undefined where the model reads none at all. */
  async #user(
    user: ReadableEmbedding | UserState | undefined,
  ): Promise<{ state: UserState; milliseconds: number; flops: number } | undefined> {
    if (user === undefined) return this.reader && { state: this.reader.none(), milliseconds: 0, flops: 0 };
    if (!isUserState(user)) {
      const state = await this.userState(user);
      return { state, milliseconds: state.milliseconds, flops: state.flops };
    }
    if (user.encoder !== this.encoder) throw new EncoderMismatchError(this.encoder ?? 'none', user.encoder);
    return { state: user, milliseconds: 0, flops: 0 };
  }

  #flops(calls: readonly { readonly rows: number; readonly tokens: number; readonly past: number }[]): number {
    const { config, user } = this.parts;
    return calls.reduce(
      (sum, call) =>
        sum +
        decoderFlops(config, { ...call, logits: 1 }) +
        (user?.integration.flops(config, user.shape, call.rows * call.tokens) ?? 0),
      0,
    );
  }

  #assertFits(tokens: number): void {
    if (tokens > this.config.contextLength) throw new DoesNotFitError(tokens, this.config.contextLength);
  }

  #assertAlive(): void {
    if (this.#disposed) throw new Error('This model was disposed; open it again.');
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.session.release();
    await (await this.#branching)?.release();
    await this.#items?.dispose();
    await this.reader?.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}
