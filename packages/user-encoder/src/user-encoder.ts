import type { EventColumns, EventTokenizer } from '@user-llm/event-tokenizer';
import { initialWeights, toOnnx, type Weights } from '@user-llm/onnx-autograd';
import { Attributor, checkAttributionOptions, type Attribution, type AttributionOptions } from './attribution.js';
import { BandedState, type StateMaking } from './banded-state.js';
import { bandOf, encoderConfig, type EncoderConfig, type EncoderOptions } from './config.js';
import { openLast, withState, type EmbeddingWithState } from './embedding-with-state.js';
import { encoderFlops } from './encoder-flops.js';
import { encoderHash, readEncoderFolder, writeEncoderFolder } from './encoder-folder.js';
import { EncoderOptionError } from './errors.js';
import { ItemScorer, type UserScores } from './item-scorer.js';
import { itemHeadOf } from './item-scores.js';
import { Inference, type InferenceOutput } from './inference.js';
import { checkOrder, LiveUser } from './live-user.js';
import { inferenceDefinition } from './model.js';
import { checkNames } from './option-names.js';
import { pretrain } from './pretrain.js';
import type { PretrainOptions } from './pretrain-options.js';
import { PretrainRun } from './pretrain-run.js';
import { replaced } from './replaced-weights.js';
import { checkOwner } from './state-owner.js';
import { Stepper } from './stepper.js';
import { trainableEncoder, type History, type TrainableEncoder } from './trainable.js';
import type { TrainingRecord } from './training-record.js';
import { embeddingOf, embeddingOptions, readingOf, type EmbeddingOptions, type UserEmbedding } from './user-embedding.js';
import { checkTokenizer, indexOfUser } from './user-index.js';
import { StateCodec, type StateDtype } from './user-state.js';

export interface EncodeOptions extends EmbeddingOptions {
  /** Users in one forward pass. Default 32. */
  readonly batch?: number;
  /**
   * Adds to each embedding the state that `update` goes on from, in float32 or smaller. For encoders whose attention is a band; see
   * {@link UserEncoder.stateBytes} for its size. Default: none.
   */
  readonly state?: boolean | StateDtype;
  readonly signal?: AbortSignal;
}

export interface RuntimeOptions {
  /** Threads of the encoder's own sessions; the machine's cores by default. */
  readonly threads?: number;
}

interface Parts {
  readonly config: EncoderConfig;
  readonly weights: Weights;
  readonly tokenizerHash: string;
  readonly tokenizer: EventTokenizer | undefined;
  readonly training: TrainingRecord | null;
  readonly threads: number | undefined;
  readonly hash?: string;
}

/** Turns the events of users into embeddings. Immutable: `hash` names architecture, weights and tokenizer for ever. */
export class UserEncoder {
  readonly config: EncoderConfig;
  /** Every weight by name: `encoder.…`, `resampler.…` and, after pretraining, `heads.…`. */
  readonly weights: Weights;
  /** SHA-256 (hexadecimal). */
  readonly hash: string;
  readonly tokenizerHash: string;
  /** Absent when the encoder was loaded from a folder without one. */
  readonly tokenizer: EventTokenizer | undefined;
  /** What pretraining did; null for an encoder that was never pretrained. */
  readonly training: TrainingRecord | null;
  private readonly threads: number | undefined;
  private readonly inference: Inference;
  private readonly attributor: Attributor;
  private readonly scorer: ItemScorer;
  /** Where attention is a band. */
  private readonly updating: BandedState | null;

  private constructor(parts: Parts) {
    this.config = parts.config;
    this.weights = parts.weights;
    this.tokenizerHash = parts.tokenizerHash;
    this.tokenizer = parts.tokenizer;
    this.training = parts.training;
    this.threads = parts.threads;
    this.hash = parts.hash ?? encoderHash({ tokenizer: parts.tokenizerHash, config: parts.config, weights: parts.weights });
    const head = itemHeadOf(this.training);
    this.inference = new Inference(this.config, this.weights, this.threads, head);
    this.attributor = new Attributor(this.config, this.weights, this.threads, head, this.training);
    this.scorer = new ItemScorer(this, this.inference);
    const band = bandOf(this.config);
    this.updating = band
      ? new BandedState(
          new StateCodec(this.config, band, this.hash, this.tokenizerHash),
          new Stepper(this.config, band, this.weights, head),
        )
      : null;
  }

  /**
   * A new encoder with random weights, the same for the same tokenizer, options and seed.
   *
   * @throws EncoderOptionError
   */
  static create(tokenizer: EventTokenizer, options: EncoderOptions = {}, { threads }: RuntimeOptions = {}): UserEncoder {
    const config = encoderConfig(tokenizer, options);
    const weights = initialWeights(inferenceDefinition(config).parameters, config.seed);
    return new UserEncoder({ config, weights, tokenizerHash: tokenizer.hash, tokenizer, training: null, threads });
  }

  /**
   * Reads a folder that `save` wrote, without its ONNX file, which `ExportedEncoder.load` reads and checks.
   *
   * @param options.tokenizer of the events, in place of the folder's; one with embedders of your own is loaded beforehand
   * @throws EncoderFormatError (no folder of an encoder, or of a newer release), SafetensorsError (weights absent, cut short or unreadable),
   *   EncoderHashError (weights, architecture or the tokenizer's hash were changed), TokenizerMismatchError (another encoder's tokenizer)
   *   and what `EventTokenizer.load` throws
   */
  static async load(
    folder: string,
    { tokenizer: given, threads }: { tokenizer?: EventTokenizer } & RuntimeOptions = {},
  ): Promise<UserEncoder> {
    const { saved, tokenizer } = await readEncoderFolder(folder, given);
    const { config, weights, training, hash } = saved;
    return new UserEncoder({ config, weights, tokenizerHash: saved.tokenizer, tokenizer, training, threads, hash });
  }

  /** Hashes and sizes: what others need to know to take this encoder's embeddings. */
  get manifest(): TrainableEncoder<unknown>['manifest'] {
    const { userTokens, width, context } = this.config;
    return { hash: this.hash, tokenizer: this.tokenizerHash, userTokens, width, context };
  }

  /**
   * Trains encoder and heads on the events (paper, section 3.1). The run starts at once and is driven by nobody: await its `result`,
   * and watch it if you like. The result is another encoder; this one does not change. The resampler is not trained here but with the
   * language model that reads it, see {@link trainable}.
   *
   * @throws (through the run) TrainingDataError, EncoderOptionError, PretrainCheckpointError, the signal's reason
   */
  pretrain(events: EventColumns, options: PretrainOptions = {}): PretrainRun<UserEncoder> {
    this.check(events);
    return new PretrainRun(async (report) => {
      const { weights, training } = await pretrain(this, events, options, report);
      return this.derive(weights, training);
    });
  }

  /**
   * Embeddings of all users, in the order of the columns. The last `context` events of a user count; in a band the whole
   * history does, as far as the layers see (each the last W events, and the resampler the last W states). A user without events gets an embedding too, the same for all of them.
   *
   * @throws TokenizerMismatchError, EncoderOptionError for a state of an encoder without a band or a dtype that there is not,
   *   or a batch that is no positive whole number, the signal's reason
   */
  async *encode(events: EventColumns, options: EncodeOptions = {}): AsyncGenerator<UserEmbedding, void, undefined> {
    checkNames(options, [...embeddingOptions, 'state', 'batch', 'signal']);
    this.check(events);
    const making = this.making(options.state);
    for await (const { user, data, state } of this.inference.users('tokens', events, { ...options, state: making?.empty }))
      yield withState(embeddingOf(this, readingOf(events, user), data, options), state, making);
  }

  /**
   * The embedding of one user (by name, or by index in the columns): `data` are K user tokens of width D, `shape` is [K, D]. What is
   * read of the history, and of none, is as in {@link encode}.
   *
   * @param options.signal looked at before the pass and after it; the pass itself is not broken off
   * @throws TokenizerMismatchError, UnknownUserError, EncoderOptionError for a state of an encoder without a band or a dtype that there
   *   is not, the signal's reason
   */
  async encodeUser(
    events: EventColumns,
    user: string | number,
    options: Omit<EncodeOptions, 'batch'> = {},
  ): Promise<UserEmbedding> {
    checkNames(options, [...embeddingOptions, 'state', 'signal']);
    const index = this.userOf(events, user);
    const making = this.making(options.state);
    options.signal?.throwIfAborted();
    const { data, state } = await this.inference.user('tokens', events, index, making?.empty);
    options.signal?.throwIfAborted();
    return withState(embeddingOf(this, readingOf(events, index), data, options), state, making);
  }

  /**
   * The embedding, with its state, of a user who did something more: one step per new event, whatever the history's length. Equal to
   * encoding the whole history again (within 1e-5 in float32; a state in fewer bits is an approximation). The last embedding stays as it
   * is; tenant, expiry and the dtype of the state go on to the new one.
   *
   * @param last embedding of the user, with its state; or the bytes of the state alone, which know their user and tenant by a hash
   * @param newEvents of the one user, in the order of time; the gap before the first is taken from the state
   * @param options.tenant the embedding's own by default; of bytes alone, the tenant that they were encoded with
   * @throws StateFormatError, StateMismatchError (events of another user or tenant among them), TokenizerMismatchError, EventOrderError,
   *   EncoderOptionError (several users, an encoder without a band, or another tenant than the embedding's)
   */
  async update(
    last: EmbeddingWithState | Uint8Array | undefined,
    newEvents: EventColumns,
    options: EmbeddingOptions = {},
  ): Promise<UserEmbedding & { readonly state: Uint8Array }> {
    checkNames(options, embeddingOptions);
    const { codec, stepper } = this.banded();
    const { tenant, expiresAt, ...opened } = openLast(codec, last, options.tenant);
    const owner = checkOwner(newEvents, this.tokenizerHash, opened.owner, tenant);
    checkOrder(newEvents, opened.state);
    const [start, end] = newEvents.offsets;
    await stepper.read(opened.state, newEvents, start, end);
    const data = await stepper.output('tokens', opened.state);
    codec.patch(opened, end - start, owner);
    const { count, time } = opened.state;
    return {
      ...embeddingOf(this, { user: newEvents.users[0], count, time }, data, { ...options, tenant }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      state: opened.bytes,
    };
  }

  /**
   * A user's state in memory, for events that come one by one; without an embedding or a state, a user without events, who becomes that
   * of the first events. Throws as `update` does.
   */
  open(last?: EmbeddingWithState | Uint8Array, options: Pick<EmbeddingOptions, 'tenant'> = {}): LiveUser {
    checkNames(options, ['tenant']);
    const { codec, stepper } = this.banded();
    const { state, owner, tenant } =
      last === undefined
        ? { state: codec.empty(), owner: null, tenant: options.tenant ?? '' }
        : openLast(codec, last, options.tenant);
    return new LiveUser(stepper, codec, this.tokenizerHash, state, owner, tenant, () => this.scorer.needHead());
  }

  /** Bytes that a user's state takes. */
  stateBytes(dtype: StateDtype = 'float32'): number {
    return this.banded().codec.bytes(dtype);
  }

  /**
   * The item head's scores of what every user does next, in the order of the columns.
   *
   * @throws NoItemScoresError for an encoder that contrastive pretraining alone made, EncoderOptionError for a batch that is no positive
   *   whole number
   */
  async *nextItemScores(
    events: EventColumns,
    options: Pick<EncodeOptions, 'batch' | 'signal'> = {},
  ): AsyncGenerator<UserScores, void, undefined> {
    checkNames(options, ['batch', 'signal']);
    this.check(events);
    yield* this.scorer.ofUsers(events, options);
  }

  /**
   * The item head's scores for one user (by name, or by index in the columns): [V] logits by item id, the special ids -Infinity. Where the
   * encoder was trained for users who take nothing again (`training.repeats`), the items of the history have the lowest score of all.
   *
   * @throws NoItemScoresError, UnknownUserError, TokenizerMismatchError
   */
  async scoreHistory(events: EventColumns, user: string | number): Promise<Float32Array> {
    return this.scorer.ofHistory(events, user);
  }

  /**
   * The item head's scores at moments of the users' histories, [V] for each, in their order. Moments of one user share a pass, as they do
   * in {@link trainable}. A teacher for a model that reads the embeddings, or a curve over the history's length.
   *
   * @param options.raw as the head gives them, a linear function of the state, also where it knows nothing of what the user has taken
   * @throws UnknownUserError, TokenizerMismatchError, NoItemScoresError, EncoderOptionError for a bidirectional encoder, which sees what came later
   */
  async scoreMoments(
    events: EventColumns,
    moments: readonly History[],
    options: { readonly raw?: boolean } = {},
  ): Promise<Float32Array[]> {
    checkNames(options, ['raw']);
    return this.scorer.ofMoments(events, moments, this.trainable(events), options.raw ?? false);
  }

  /**
   * Which of a user's events (by name, or by index in the columns) moved the embedding, or the place of an item in the ranking.
   *
   * @param options.signal looked at before every pass
   * @throws UnknownUserError, TokenizerMismatchError, EncoderOptionError, NoItemScoresError, the signal's reason
   */
  async attribute(events: EventColumns, user: string | number, options: AttributionOptions = {}): Promise<Attribution> {
    checkAttributionOptions(options);
    const index = this.userOf(events, user);
    if (typeof options.of === 'object') this.scorer.needHead();
    options.signal?.throwIfAborted();
    const nobody = { ...events, users: [''], offsets: new Int32Array(2) };
    const { data } = await this.inference.user('tokens', nobody, 0);
    const [start, end] = events.offsets.subarray(index, index + 2);
    return this.attributor.attribute(events, { start, end }, data, options);
  }

  /**
   * Scores of items by their fields for one user, items that are not in the vocabulary among them: every event of `items` is taken as
   * an item. After `dualEncoder` alone those of known items are what `scoreHistory` gives, where their fields are the same. Where the labels
   * were trained for users who take nothing again (`training.labelTower.repeats`), the items of the history have the lowest score that
   * there can be, -1 / temperature.
   *
   * @returns [events of items]
   * @throws NoLabelTowerError unless `dualEncoder`, alone or combined, trained the encoder
   */
  async scoreItems(events: EventColumns, user: string | number, items: EventColumns): Promise<Float32Array> {
    this.check(items);
    return this.scorer.ofItems(events, user, items);
  }

  /** This encoder as a part of a bigger model that trains it on histories of these users. */
  trainable(events: EventColumns): TrainableEncoder<UserEncoder> {
    this.check(events);
    return trainableEncoder(this, events, (weights) => this.withWeights(weights));
  }

  /**
   * The encoder with other weights: names that it does not have are left out, those not given stay.
   *
   * @throws WeightError for another shape
   */
  withWeights(weights: Weights): UserEncoder {
    return this.derive(replaced(this.weights, weights), this.training);
  }

  /** Floating-point operations of the matrix products (2 m n k) that one user with so many events costs. */
  flops({ events, output = 'tokens' }: { events: number; output?: InferenceOutput }): number {
    if (output === 'scores') this.scorer.needHead();
    if (output === 'direction') this.scorer.needTower();
    return encoderFlops(this.config, itemHeadOf(this.training), output, events);
  }

  /**
   * The encoder as one ONNX model, weights inside. Inputs: `events.FIELD` (ids int32 [windows, events], bags [windows, events,
   * bag], vectors float32), events first and padding (0) after them, and `lengths` int32 [windows], how many are events;
   * with `rotary-time` also `turns.events.cosine` and `turns.events.sine` float32 [windows, events, D / H / 2], the turns of each event's
   * place and time; with relative times `gaps.events` int32 [windows, events, events]: for event i and an earlier event j of the band, 0 where the
   * time between them is unknown, 1 below a second, and 2 + floor(log2(seconds)) above. At most `context` events, or in a band as many
   * as count.
   * Outputs: `tokens` [windows, K, D] and, where there is an item head, `scores` [windows, V], of which those of items in the history mean
   * nothing where `training.repeats` is `never`; those of a bidirectional encoder are for a masked event (every id 1), which stands after
   * the last and counts in `lengths`.
   */
  toOnnx(): Uint8Array {
    const { outputs } = inferenceDefinition(this.config, itemHeadOf(this.training)).build({ training: false });
    return toOnnx({ outputs, weights: this.weights, metadata: { encoder: this.hash, tokenizer: this.tokenizerHash } }).bytes;
  }

  /** Writes `encoder.json`, `weights.safetensors`, `tokenizer.json` (where the encoder has it) and `onnx/encoder.onnx`. */
  async save(folder: string): Promise<void> {
    const { hash, config, weights, training } = this;
    await writeEncoderFolder(
      folder,
      { hash, tokenizer: this.tokenizerHash, config, weights, training },
      this.toOnnx(),
      this.tokenizer,
    );
  }

  /** Releases the sessions. The encoder cannot encode afterwards; what it is (weights, hash) stays readable. */
  async dispose(): Promise<void> {
    await this.inference.dispose();
    await this.attributor.dispose();
    await this.updating?.stepper.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  private derive(weights: Weights, training: TrainingRecord | null): UserEncoder {
    const merged: Weights = new Map([...this.weights, ...weights]);
    const { config, tokenizerHash, tokenizer, threads } = this;
    return new UserEncoder({ config, weights: merged, tokenizerHash, tokenizer, training, threads });
  }

  private check(events: EventColumns): void {
    checkTokenizer(events, this.tokenizerHash);
  }

  private userOf(events: EventColumns, user: string | number): number {
    return indexOfUser(events, user, this.tokenizerHash);
  }

  private banded(): BandedState {
    if (!this.updating)
      throw new EncoderOptionError(
        'attention',
        'learned positions and bidirectional attention keep no state, since every new event moves the places of all; create the encoder with ' +
          "{ attention: { position: 'rotary', window: 50 } }, and encode with { state: true } what is to be updated",
      );
    return this.updating;
  }

  private making(state: EncodeOptions['state'] = false): StateMaking | undefined {
    return state === false ? undefined : this.banded().making(state);
  }
}
