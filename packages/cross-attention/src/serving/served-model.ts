import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { PreTrainedModel } from '@huggingface/transformers';
import * as ort from 'onnxruntime-node';
import { decoderFlops } from '../decoder/flops.js';
import { DoesNotFitError, EncoderMismatchError, PrefixError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { blindTokensOf, problemOfBlindTokens } from '../integration/blind-prefix.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import type { Integration, UserShape } from '../integration/integration.js';
import { beamSearch, exactRanking } from '../ranking/beam-search.js';
import { Run } from '../run.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import { BranchingScorer } from './branching-scorer.js';
import { generateOnce, transformersModel } from './generation.js';
import type { Generation, Timings, Usage } from './generation.js';
import { computePrefix } from './prefix.js';
import type { Prefix } from './prefix.js';
import { readPrompt, tokensOf } from './prompt-reader.js';
import type { PromptModel } from './prompt-reader.js';
import type { GenerateRequest, Prompt, RankRequest, Ranking } from './request.js';
import { UserReader, isUserState, tensorOf } from './user-state.js';
import type { ReadableEmbedding, UserState } from './user-state.js';

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
  /** How it reads users, where it does, with `user.onnx`. */
  readonly user?: {
    readonly integration: Integration;
    readonly shape: UserShape;
    readonly encoder: string;
    readonly blindPrefix?: BlindPrefix;
    readonly model: Uint8Array;
  };
  /** Names the weights, so that prefixes are not taken from another model. Default: a name of its own each time it is opened. */
  readonly identity?: string;
  /** Defaults of `generate`. */
  readonly generation?: Readonly<Record<string, unknown>>;
}

export interface ServeOptions {
  /** Threads of one operation; the machine's cores by default. Divide them among workers. */
  readonly threads?: number;
}

/**
 * A model that answers: text by transformers.js's `generate`, rankings by beam search over a trie of titles. The first ranking opens a second
 * onnxruntime session, whose graph lets titles branch behind one prompt. Runs block the event loop; a server puts it into a worker.
 */
export class ServedModel {
  #disposed = false;
  #branching: Promise<ort.InferenceSession> | undefined;
  // The files' bytes are held no longer than they are needed.
  #makeBranching: ServedParts['branching'] | undefined;

  private constructor(
    private readonly parts: PromptModel,
    private readonly session: ort.InferenceSession,
    private readonly options: ort.InferenceSession.SessionOptions,
    private readonly model: PreTrainedModel,
    private readonly reader: UserReader | undefined,
    branching: ServedParts['branching'],
  ) {
    this.#makeBranching = branching;
  }

  static async create(parts: ServedParts, { threads = availableParallelism() }: ServeOptions = {}): Promise<ServedModel> {
    const options: ort.InferenceSession.SessionOptions = {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
    };
    const { config, tokenizer, user, identity = randomUUID() } = parts;
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
    return new ServedModel({ identity, config, tokenizer, user }, session, options, model, reader, parts.branching);
  }

  get config(): DecoderConfig {
    return this.parts.config;
  }

  get tokenizer(): TextTokenizer {
    return this.parts.tokenizer;
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
  promptIds(prompt: Prompt, withUser: boolean): readonly number[] {
    return readPrompt(prompt, withUser, this.parts).ids;
  }

  /**
   * The beginning of a prompt that does not read the user, computed once for all requests whose prompts begin alike: give it to them as
   * `prefix`. Its length is what the model's `blindPrefix` says of this prompt, or `blindTokens`. A `PrefixError` says that nothing
   * of the prompt is blind. A model that reads no users takes any `blindTokens`, so that a long prompt can be kept.
   */
  async prefix({ blindTokens, ...prompt }: Prompt & { readonly blindTokens?: number }): Promise<Prefix> {
    this.#assertAlive();
    const { config, tokenizer, user, identity } = this.parts;
    const ids = tokensOf(prompt as Prompt, tokenizer);
    const problem = problemOfBlindTokens(user === undefined ? {} : user.blindPrefix, ids.length, blindTokens);
    if (problem !== undefined) throw new PrefixError(`cannot be computed: the prompt ${problem}.`);
    const length = blindTokensOf(user?.blindPrefix, ids.length, blindTokens);
    if (length === 0)
      throw new PrefixError(
        `of this prompt would be empty: none of its ${ids.length} tokens is blind. Say how many are with blindTokens, or adapt with a blindPrefix.`,
      );
    this.#assertFits(length);
    const nobody = this.reader && tensorOf(this.reader.none());
    return computePrefix(this.session, config, { model: identity, ids: ids.slice(0, length), nobody });
  }

  /** Answers a prompt. Throws a `DoesNotFitError` before anything runs when prompt and answer are longer than the model's context. */
  generate(request: GenerateRequest): Generation {
    this.#assertAlive();
    const begun = performance.now();
    const { signal } = request;
    const prompt = readPrompt(request, request.user !== undefined, this.parts);
    const promptTokens = prompt.ids.length;
    const past = prompt.prefix?.ids.length ?? 0;
    const maxNewTokens = request.maxNewTokens ?? Math.max(1, Math.min(128, this.config.contextLength - promptTokens));
    this.#assertFits(promptTokens + maxNewTokens);
    const run = new Run<string, { ids: readonly number[]; text: string; usage: Usage; timings: Timings }>(async (emit) => {
      const user = await this.#user(request.user);
      let firstTokenMs = 0;
      let text = '';
      const ids = await generateOnce(this.model, this.tokenizer, {
        prompt,
        config: this.config,
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
      const calls = [{ rows: 1, tokens: promptTokens - past, past }];
      for (let i = 1; i < ids.length; i++) calls.push({ rows: 1, tokens: 1, past: promptTokens + i - 1 });
      return {
        ids,
        text,
        usage: { promptTokens, answerTokens: ids.length, flops: this.#flops(calls) + (user?.flops ?? 0) },
        timings: { userMs: user?.milliseconds ?? 0, firstTokenMs, totalMs: performance.now() - begun },
      };
    });
    const of = <T>(pick: (result: Awaited<typeof run.result>) => T): Promise<T> => {
      const promise = run.result.then(pick);
      promise.catch(() => undefined);
      return promise;
    };
    const inWords = <T>(what: T): T => {
      this.tokenizer.assertPresent();
      return what;
    };
    return {
      textStream: { [Symbol.asyncIterator]: () => inWords(run)[Symbol.asyncIterator]() },
      text: of(({ text }) => inWords(text)),
      tokenIds: of(({ ids }) => ids),
      usage: of(({ usage }) => usage),
      timings: of(({ timings }) => timings),
    };
  }

  /** Ranks the titles of a trie after a prompt, by beam search or exactly. Throws a `DoesNotFitError` like `generate`. */
  async rank(request: RankRequest): Promise<Ranking> {
    this.#assertAlive();
    const begun = performance.now();
    const { trie, top, exclude = [], width, exact = false, signal } = request;
    const prompt = readPrompt(request, request.user !== undefined, this.parts);
    this.#assertFits(prompt.ids.length + trie.depth);
    const user = await this.#user(request.user);
    const userMs = performance.now() - begun;
    const sessions = { prompt: this.session, branching: await this.#rankingSession() };
    const scorer = new BranchingScorer(sessions, this.config, prompt, user && tensorOf(user.state));
    const options = { top, exclude, among: request.among ?? 'catalogue', ...(signal === undefined ? {} : { signal }) };
    const ranked = exact
      ? await exactRanking(trie, scorer, options)
      : await beamSearch(trie, scorer, width === undefined ? options : { ...options, width });
    return {
      ...ranked,
      promptTokens: prompt.ids.length,
      flops: this.#flops(scorer.calls) + (user?.flops ?? 0),
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
    await this.reader?.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}
