import type { Feeds, HostTensor, Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { AdaptationError } from '../errors.js';
import { itemRowsName } from '../items/item-tokens.js';
import { Run } from '../run.js';
import { ShuffledBatches } from './examples.js';
import type { AdaptationExample, ExampleSource } from './examples.js';
import { jointDefinition, jointWeights, strategies, trainedBy } from './joint-model.js';
import type { JointModel, Strategy } from './joint-model.js';
import { takesBlindLength } from '../integration/integration.js';
import { isLoraParameter, loraSettings, mergeLora } from './lora.js';
import type { LoraAdapter } from './lora-adapter.js';
import type { LoraOptions } from './lora.js';
import { train } from './train.js';
import type { Batch, TrainingTask } from './train.js';
import { totalWeight } from './choices.js';
import { placeholdersOf, textFeeds, textRow } from './text-rows.js';
import type { TextRow } from './text-rows.js';
import { isEncoderParameter, isResamplerParameter, withScope, withoutScope } from './trainable-encoder.js';
import type { TrainableEncoder } from './trainable-encoder.js';
import type { TrainingOptions, TrainingProgress, TrainingRecord } from './training-options.js';

export interface AdaptOptions<History = unknown> extends TrainingOptions<History> {
  readonly strategy: Strategy;
  /** Settings of the strategy `lora`. */
  readonly lora?: LoraOptions;
}

/** What `adaptJointModel` trained. */
export interface AdaptedParts {
  /** LoRA is merged into the weights. */
  readonly decoder: Decoder;
  /** What the strategy `lora` added to them, by itself. */
  readonly lora?: LoraAdapter;
  readonly integration?: Weights;
  readonly itemRows?: HostTensor;
  /** The encoder's own weights, by its own names. */
  readonly encoder?: Weights;
  readonly record: TrainingRecord;
}

/** Trains a joint model on examples by a strategy, loss on the answers' tokens. Begins at once; see `Run`. */
export function adaptJointModel<History>(
  model: JointModel<History>,
  source: ExampleSource<History>,
  options: AdaptOptions<History>,
): Run<TrainingProgress, AdaptedParts> {
  return new Run(async (emit) => {
    const { strategy } = options;
    if (!strategies.includes(strategy))
      throw new AdaptationError('strategy', `'${strategy}' is none of ${strategies.join(', ')}`);
    if (model.user === undefined && (strategy === 'encoder' || strategy === 'projection'))
      throw new AdaptationError(
        'strategy',
        `'${strategy}' trains what reads users, and this model reads none; use full or lora, or add user embeddings`,
      );
    const lora = strategy === 'lora' ? (options.lora ?? {}) : undefined;
    const feeder = new Feeder(model, options);
    const epochs = Array.isArray(source) ? feeder.epochs(source as readonly AdaptationExample<History>[]) : undefined;
    const { encoderRate = 1 } = options;
    const task: TrainingTask = {
      definition: jointDefinition(model, lora, { recomputed: options.recompute ?? false }),
      weights: jointWeights(model),
      trainable: trainedBy(strategy, model),
      batch: async (step) => {
        if (epochs !== undefined) return feeder.batch(epochs.at(step));
        const examples = await (source as (step: number) => Promise<readonly AdaptationExample<History>[] | null>)(step);
        if (examples === null) return null;
        return feeder.batch(feeder.rows(examples, `step ${step}, example`));
      },
      ...(epochs === undefined ? {} : { stepsPerEpoch: epochs.stepsPerEpoch }),
      ...(options.validation === undefined ? {} : { validation: feeder.validation(options.validation.examples) }),
      ...(encoderRate === 1 || model.user === undefined
        ? {}
        : { rateOf: encoderRates(model.user.encoder as TrainableEncoder<never>, encoderRate) }),
      options: recorded(options),
    };
    const budget = options.steps ?? options.epochs ?? options.seconds;
    const { weights, record } = await train(
      task,
      budget === undefined && epochs !== undefined ? { ...options, epochs: 3 } : options,
      emit,
    );
    const parts = { ...takeApart(model, weights, lora), record };
    if (lora === undefined) return parts;
    const own = new Map([...weights].filter(([name]) => isLoraParameter(name)));
    return { ...parts, lora: { ...loraSettings(lora), weights: own } };
  });
}

const encoderRates = (encoder: TrainableEncoder<never>, rate: number) => (name: string) =>
  isEncoderParameter(name) && !isResamplerParameter(encoder, name) ? rate : 1;

function takeApart<History>(
  { decoder, user }: JointModel<History>,
  weights: Weights,
  lora: LoraOptions | undefined,
): Omit<AdaptedParts, 'record'> {
  const own = new Map([...weights].filter(([name]) => decoder.weights.has(name)));
  const loraWeights = new Map([...weights].filter(([name]) => isLoraParameter(name)));
  const adapted = { config: decoder.config, weights: lora === undefined ? own : mergeLora(own, loraWeights, lora) };
  const itemRows = weights.get(itemRowsName);
  const parts = { decoder: adapted, ...(itemRows === undefined ? {} : { itemRows }) };
  if (user === undefined) return parts;
  return {
    ...parts,
    integration: new Map([...weights].filter(([name]) => name.startsWith(`${user.integration.prefix}.`))),
    // Parts of the encoder that are not in this graph, such as its output heads, stay.
    encoder: new Map([...user.encoder.weights, ...withoutScope(weights)]),
  };
}

function recorded<History>(options: AdaptOptions<History>): Record<string, unknown> {
  const { signal: _, checkpoint: __, validation, ...rest } = options;
  return { ...rest, ...(validation === undefined ? {} : { validationExamples: validation.examples.length }) };
}

interface Prepared<History> {
  readonly row: TextRow;
  readonly history: History | undefined;
}

/** Turns examples into what the joint graph is fed. */
class Feeder<History> {
  readonly batchSize: number;
  readonly #tokensPerPart: number;
  /** Stands in for rows without a user, which read nothing. */
  #anyHistory: History | undefined;

  constructor(
    private readonly model: JointModel<History>,
    private readonly options: TrainingOptions<History>,
  ) {
    this.batchSize = options.batchSize ?? 64;
    this.#tokensPerPart = options.tokensPerPart ?? 8192;
    for (const [name, value] of Object.entries({ batchSize: this.batchSize, tokensPerPart: this.#tokensPerPart }))
      if (!Number.isInteger(value) || value < 1)
        throw new AdaptationError(name, `must be a whole number of at least 1, and is ${value}`);
  }

  get #items(): number {
    return this.model.itemRows?.shape[0] ?? 0;
  }

  rows(examples: readonly AdaptationExample<History>[], where: string): Prepared<History>[] {
    if (examples.length === 0) throw new AdaptationError('examples', 'there are none');
    const { decoder, user } = this.model;
    const shape = {
      ...decoder.config,
      placeholders: placeholdersOf(decoder.config, user),
      items: this.#items,
      ...(user?.blindPrefix === undefined ? {} : { blindPrefix: user.blindPrefix }),
    };
    return examples.map((example, i) => {
      const history = user === undefined ? undefined : example.history;
      this.#anyHistory ??= history;
      return { row: textRow({ ...example, history }, shape, `${where} ${i}`), history };
    });
  }

  epochs(examples: readonly AdaptationExample<History>[]): ShuffledBatches<Prepared<History>> {
    const prepared = this.rows(examples, 'example');
    return new ShuffledBatches(
      prepared,
      ({ row }) => row.input.length,
      Math.min(this.batchSize, prepared.length),
      this.options.seed ?? 1,
    );
  }

  /** A batch, in parts that fit. */
  batch(rows: readonly Prepared<History>[]): Batch {
    const longest = Math.max(...rows.map(({ row }) => row.input.length));
    const fitting = Math.max(1, Math.floor(this.#tokensPerPart / longest));
    const count = Math.ceil(rows.length / fitting);
    const perPart = Math.ceil(rows.length / count);
    const weight = weightOf(rows);
    if (!(weight > 0)) throw new AdaptationError('examples', 'no token of a whole batch carries weight; look at answerWeights');
    // The trainer averages the parts' gradients, and so the losses; their sum is wanted.
    const normalizer = weight / Math.ceil(rows.length / perPart);
    const parts: Feeds[] = [];
    for (let start = 0; start < rows.length; start += perPart)
      parts.push(this.#feeds(rows.slice(start, start + perPart), normalizer));
    return { parts, examples: rows.length, tokens: rows.reduce((sum, { row }) => sum + row.input.length, 0) };
  }

  #feeds(rows: readonly Prepared<History>[], normalizer: number): Feeds {
    const { user } = this.model;
    const text = textFeeds(
      rows.map(({ row }) => row),
      rows.map(({ history }) => history !== undefined),
      {
        normalizer,
        vocabularySize: this.model.decoder.config.vocabularySize,
        items: this.#items,
        blindLengths: user !== undefined && takesBlindLength(user.integration, user.blindPrefix),
      },
    );
    if (user === undefined) {
      const { user_present: _, ...rest } = text;
      return rest;
    }
    const stand = this.#anyHistory;
    if (stand === undefined)
      throw new AdaptationError('examples', 'none has a history; give some, or adapt the base model without user embeddings');
    const histories = rows.map(({ history }) => history ?? stand);
    return { ...text, ...Object.fromEntries(withScope(Object.entries(user.encoder.feeds(histories)))) };
  }

  /** Validation batches: sorted by length, so that little is padding. */
  validation(examples: readonly AdaptationExample<History>[]): { batch: Batch; weight: number }[] {
    const rows = this.rows(examples, 'validation example').sort((a, b) => a.row.input.length - b.row.input.length);
    const batches: { batch: Batch; weight: number }[] = [];
    for (let start = 0; start < rows.length; start += this.batchSize) {
      const part = rows.slice(start, start + this.batchSize);
      batches.push({ batch: this.batch(part), weight: weightOf(part) });
    }
    return batches;
  }
}

const weightOf = (rows: readonly { readonly row: TextRow }[]): number =>
  rows.reduce((sum, { row }) => sum + totalWeight(row.tokens) + totalWeight(row.items), 0);
