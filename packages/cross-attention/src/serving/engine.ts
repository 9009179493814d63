import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import * as ort from 'onnxruntime-node';
import { checkCount } from '../check-count.js';
import { decoderFlops } from '../decoder/flops.js';
import { DoesNotFitError, EncoderMismatchError, PrefixError } from '../errors.js';
import type { Precision } from '../decoder/packable-matrix.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { blindTokensOf, problemOfBlindTokens } from '../integration/blind-prefix.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import type { Integration, UserShape } from '../integration/integration.js';
import type { NamingParts } from '../items/saved-items.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import { preferWholeScores } from './attention-kernel.js';
import { computePrefix } from './prefix.js';
import type { Prefix } from './prefix.js';
import { readPrompt, tokensOf } from './prompt-reader.js';
import type { PromptModel, ReadPrompt } from './prompt-reader.js';
import type { PrefixRequest, Prompt, RequestOptions } from './request.js';
import { UserReader, isUserState, tensorOf } from './user-state.js';
import type { ReadableEmbedding, StoredUserState, UserState } from './user-state.js';

/** What a served model is made of. */
export interface ServedParts {
  readonly config: DecoderConfig;
  readonly tokenizer: TextTokenizer;
  /** `model.onnx` */
  readonly model: Uint8Array;
  /** Where the values lie that the model leaves out; needed while it is opened. */
  readonly valueFolder?: string;
  /** Opens the graph for rankings (`branchingModel`), when the first one is asked for. */
  readonly branching: (open: OpenGraph) => Promise<ort.InferenceSession>;
  /** Its item tokens, where it has some, with `items.onnx`. */
  readonly items?: NamingParts | undefined;
  /** Its labels' tokens, with `labels.onnx`. */
  readonly labels?: NamingParts | undefined;
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
}

/** Opens a graph; the values that it leaves out lie in the folder, which is needed until it is open. */
export type OpenGraph = (model: Uint8Array, valueFolder?: string) => Promise<ort.InferenceSession>;

export interface ServeOptions {
  /** Threads of one operation; the machine's cores by default. Divide them among workers. */
  readonly threads?: number;
  /**
   * Most rankings, and answers without a scheduler, that run at once, each with a cache of its own; the others wait in the order in which they
   * came. Default 4. A ranker of one's own must not wait for the same model's `rank` or `generate`, which may wait for its place.
   */
  readonly atOnce?: number;
}

/** Whether a model is opened with its layers' products in integers. */
export interface IntegerOption {
  /**
   * Computes the layers' products in 8-bit integers: a scale for each row of activations and each column of weights, evened out by what the
   * model's channels are seen to become on a text (`text`: words or token ids; a page of mixed prose by default). Prompts run two to three
   * times as fast on a processor with AMX; the weights of a GGUF file's blocks are rounded once more, what
   * that costs in perplexity is in the README. Head and embeddings stay as they are. Default false.
   */
  readonly int8?: false | InIntegers;
}

/** Products in integers, and what is read before, where that is not to be the page of mixed prose. */
export type InIntegers = true | { readonly text?: string | readonly number[] };

/** How a model in memory is opened for inference. */
export interface ServeModelOptions extends ServeOptions, Precision, IntegerOption {}

/** A user who is about to be read, and what reading cost. */
export interface ReadUser {
  readonly state: UserState;
  readonly milliseconds: number;
  readonly flops: number;
}

/** Tokens that went through the model in one call. */
export interface ModelCall {
  readonly rows: number;
  readonly tokens: number;
  readonly past: number;
}

/** A prompt that fits, and how long its answer may be. */
export interface AdmittedPrompt extends ReadPrompt {
  readonly maxNewTokens: number;
}

const openGraph =
  (options: ort.InferenceSession.SessionOptions): OpenGraph =>
  (model, valueFolder) => {
    preferWholeScores();
    const values = { session: { model_external_initializers_file_folder_path: valueFolder } };
    return ort.InferenceSession.create(model, valueFolder === undefined ? options : { ...options, extra: values });
  };

/** What all ways of answering share: the open sessions of one model, its prompts, users and prefixes. */
export class ServingEngine {
  #disposed = false;
  readonly #running = new Set<Promise<unknown>>();

  private constructor(
    readonly parts: PromptModel,
    readonly session: ort.InferenceSession,
    /** What the session was opened with. */
    readonly options: ort.InferenceSession.SessionOptions,
    readonly reader: UserReader | undefined,
  ) {}

  static async open(parts: ServedParts, { threads = availableParallelism() }: ServeOptions): Promise<ServingEngine> {
    const options: ort.InferenceSession.SessionOptions = {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
    };
    const { config, tokenizer, user, identity = randomUUID() } = parts;
    const session = await openGraph(options)(parts.model, parts.valueFolder);
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
    return new ServingEngine({ identity, config, tokenizer, user }, session, options, reader);
  }

  get config(): DecoderConfig {
    return this.parts.config;
  }

  get tokenizer(): TextTokenizer {
    return this.parts.tokenizer;
  }

  /** Does work that `release` waits for. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.assertAlive();
    const run = work();
    this.#running.add(run);
    try {
      return await run;
    } finally {
      this.#running.delete(run);
    }
  }

  userState(embedding: ReadableEmbedding): Promise<UserState> {
    return this.during(() => this.#read(embedding));
  }

  async #read(embedding: ReadableEmbedding): Promise<UserState> {
    if (isUserState(embedding)) throw new TypeError('This is a user state already; give it to requests as it is.');
    return this.#readerOf(embedding).read(embedding);
  }

  async storedUserState(user: ReadableEmbedding | UserState): Promise<StoredUserState> {
    const state = isUserState(user) ? user : await this.userState(user);
    this.assertAlive();
    return this.#readerOf(state).stored(state);
  }

  /**
   * What the session is fed for a user, or for none; undefined where the model reads none at all. To be called `during` a request: one that
   * waited for its turn is answered, although the model takes no more requests since.
   */
  async readUser(user: ReadableEmbedding | UserState | undefined): Promise<ReadUser | undefined> {
    if (user === undefined) return this.reader && { state: this.reader.none(), milliseconds: 0, flops: 0 };
    if (!isUserState(user)) {
      const state = await this.#read(user);
      return { state, milliseconds: state.milliseconds, flops: state.flops };
    }
    this.#readerOf(user).assertOwn(user);
    return { state: user, milliseconds: 0, flops: 0 };
  }

  #readerOf({ encoder }: { readonly encoder: string }): UserReader {
    if (this.reader !== undefined) return this.reader;
    throw new EncoderMismatchError('none', encoder, 'This model reads no user embeddings; adapt it to an encoder first.');
  }

  /** A request's prompt as the model gets it. */
  readPrompt(request: Prompt & RequestOptions): ReadPrompt {
    return readPrompt(request, request.user !== undefined, this.parts);
  }

  /** A request's prompt with room for its answer; a `DoesNotFitError` where there is none, a `RangeError` for a `maxNewTokens` that is no count. */
  admit(request: Prompt & RequestOptions & { readonly maxNewTokens?: number }): AdmittedPrompt {
    this.assertAlive();
    if (request.maxNewTokens !== undefined) checkCount('maxNewTokens', request.maxNewTokens);
    const prompt = this.readPrompt(request);
    const maxNewTokens = request.maxNewTokens ?? Math.max(1, Math.min(128, this.config.contextLength - prompt.ids.length));
    this.assertFits(prompt.ids.length + maxNewTokens);
    return { ...prompt, maxNewTokens };
  }

  async prefix({ blindTokens, signal, ...prompt }: PrefixRequest): Promise<Prefix> {
    this.assertAlive();
    signal?.throwIfAborted();
    const { config, user, identity } = this.parts;
    const ids = tokensOf(prompt as Prompt, this.parts);
    const problem = problemOfBlindTokens(user === undefined ? {} : user.blindPrefix, ids.length, blindTokens);
    if (problem !== undefined) throw new PrefixError(`cannot be computed: the prompt ${problem}.`);
    const length = blindTokensOf(user?.blindPrefix, ids.length, blindTokens);
    if (length === 0)
      throw new PrefixError(
        `of this prompt would be empty: none of its ${ids.length} tokens is blind. Say how many are with blindTokens, or adapt with a blindPrefix.`,
      );
    this.assertFits(length);
    const nobody = this.reader && tensorOf(this.reader.none());
    const beginning = { model: identity, ids: ids.slice(0, length), nobody, signal };
    return this.during(() => computePrefix(this.session, config, beginning));
  }

  flops(calls: readonly ModelCall[]): number {
    const { config, user } = this.parts;
    return calls.reduce(
      (sum, call) =>
        sum +
        decoderFlops(config, { ...call, logits: 1 }) +
        (user?.integration.flops(config, user.shape, call.rows * call.tokens) ?? 0),
      0,
    );
  }

  /** Floating-point operations of one answer: its prompt, behind the prefix, and all its tokens but the last. */
  answerFlops({ ids, prefix }: ReadPrompt, answerTokens: number): number {
    const past = prefix?.ids.length ?? 0;
    const calls = [{ rows: 1, tokens: ids.length - past, past }];
    for (let i = 1; i < answerTokens; i++) calls.push({ rows: 1, tokens: 1, past: ids.length + i - 1 });
    return this.flops(calls);
  }

  assertFits(tokens: number): void {
    if (tokens > this.config.contextLength) throw new DoesNotFitError(tokens, this.config.contextLength);
  }

  assertAlive(): void {
    if (this.#disposed) throw new Error('This model was disposed; open it again.');
  }

  /** Opens another graph of the model as its own session was. */
  readonly openGraph: OpenGraph = (model, valueFolder) => openGraph(this.options)(model, valueFolder);

  /** Takes no more requests. */
  close(): void {
    this.#disposed = true;
  }

  /** Gives the memory back, once nothing runs any more. */
  async release(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.session.release();
    await this.reader?.dispose();
  }
}
