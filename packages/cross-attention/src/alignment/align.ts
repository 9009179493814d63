import type { HostTensor, Trainer, Weights } from '@user-llm/onnx-autograd';
import { ShuffledBatches } from '../adaptation/examples.js';
import type { JointModel, JointUser } from '../adaptation/joint-model.js';
import { jointWeights, trainedBy } from '../adaptation/joint-model.js';
import { hashExamples } from '../adaptation/run-identity.js';
import { train } from '../adaptation/train.js';
import type { Batch } from '../adaptation/train.js';
import { isEncoderParameter, isResamplerParameter, withScope, withoutScope } from '../adaptation/trainable-encoder.js';
import type { TrainableEncoder } from '../adaptation/trainable-encoder.js';
import type { TrainingProgress, TrainingRecord, TrainingSettings, ValidationSchedule } from '../adaptation/training-options.js';
import { checkBatchSize, checkTrainingSettings, trainingDefaults } from '../adaptation/training-settings.js';
import type { Validated } from '../adaptation/validation.js';
import { AdaptationError } from '../errors.js';
import { Run } from '../run.js';
import { checkAlignmentExample, textKey } from './alignment-example.js';
import type { AlignmentExample } from './alignment-example.js';
import { alignmentDefinition, isAlignmentParameter } from './alignment-graph.js';
import type { TextReading } from './alignment-graph.js';
import { foundPairs } from './retrieval-accuracy.js';
import { TextReader } from './text-reader.js';

export interface AlignOptions<History = unknown> extends TrainingSettings {
  /** `encoder`, the default, trains the encoder with its resampler; `projection` the resampler alone. The language model only reads. */
  readonly strategy?: 'encoder' | 'projection';
  /** What of the model's states stands for a text: the mean of all, or the one after its last token. Default: mean. */
  readonly reading?: TextReading;
  /** Elements of the vectors that users and texts are compared by. Default 128. */
  readonly width?: number;
  readonly validation?: ValidationSchedule & {
    /** Users that are not trained on, with their texts, all compared with each other. The weights of the lowest loss are kept. */
    readonly examples: readonly AlignmentExample<History>[];
  };
}

/**
 * Where pairs come from: a list, shuffled anew in each epoch, or a function from the step (counted from 1) to its batch, or null at the
 * end, which gives the same batch for the same step.
 */
export type AlignmentSource<History> =
  | readonly AlignmentExample<History>[]
  | ((step: number) => readonly AlignmentExample<History>[] | Promise<readonly AlignmentExample<History>[] | null> | null);

/** What `alignJointModel` trained. */
export interface AlignedParts {
  readonly integration: Weights;
  /** The encoder's own weights, by its own names. */
  readonly encoder: Weights;
  readonly record: TrainingRecord;
}

/** Batches whose texts say what is usual of the model's states. */
const standardBatches = 4;
/** Held-out users that are encoded at once. */
const usersAtOnce = 64;

type Model<History> = JointModel<History> & { readonly user: JointUser<History> };

/** Draws user tokens and the language model's reading of their texts together. Begins at once; see `Run`. */
export function alignJointModel<History>(
  model: Model<History>,
  source: AlignmentSource<History>,
  options: AlignOptions<History>,
): Run<TrainingProgress, AlignedParts> {
  return new Run(async (emit) => {
    checkTrainingSettings(options, { settings: ['strategy', 'reading', 'width'], validation: ['examples'] });
    checkBatchSize(source, options);
    const { strategy = 'encoder', reading = 'mean', width = 128, validation } = options;
    const { encoderRate } = { ...trainingDefaults, ...options };
    if (strategy !== 'encoder' && strategy !== 'projection')
      throw new AdaptationError(
        'strategy',
        `'${String(strategy)}' is none of encoder, projection; the language model does not learn here`,
      );
    if (reading !== 'last' && reading !== 'mean')
      throw new AdaptationError('reading', `'${String(reading)}' is none of last, mean`);
    if (!Number.isInteger(width) || width < 1)
      throw new AdaptationError('width', `must be a whole number of at least 1, and is ${width}`);
    const pairs = new Pairs(model, source, options);
    const held = validation && pairs.checked(validation.examples, 'validation example');
    if (held?.length === 1) throw new AdaptationError('validation', 'one example has no other to be told from; give more');
    let reader: TextReader | undefined;
    const readerOf = async (trainer: Trainer): Promise<TextReader> => {
      if (reader !== undefined) return reader;
      const made = new TextReader(trainer, model.decoder.config.hiddenSize, options.signal);
      await made.standardise(await pairs.firstTexts(standardBatches));
      return (reader = made);
    };
    const trains = trainedBy(strategy, model);
    const rate = (name: string): number =>
      isEncoderParameter(name) && !isResamplerParameter(model.user.encoder as TrainableEncoder<never>, name) ? encoderRate : 1;
    const { weights, record } = await train(
      {
        definition: alignmentDefinition(model, { reading, width }),
        weights: jointWeights(model),
        trainable: (name) => isAlignmentParameter(name) || trains(name),
        ...(encoderRate === 1 ? {} : { rateOf: rate }),
        batch: async (step, trainer): Promise<Batch | null> => {
          const batch = await pairs.at(step);
          if (batch === null) return null;
          const texts = batch.map(({ textIds }) => textIds);
          const text_states = await (await readerOf(trainer)).read(texts);
          return {
            parts: [{ ...pairs.users(batch), text_states, apart: apart(texts.map(textKey)) }],
            examples: batch.length,
            tokens: texts.reduce((sum, { length }) => sum + length, 0),
          };
        },
        ...(pairs.stepsPerEpoch === undefined ? {} : { stepsPerEpoch: pairs.stepsPerEpoch }),
        ...(held === undefined
          ? {}
          : { validate: async (trainer: Trainer) => validated(trainer, await readerOf(trainer), pairs, held) }),
        ...(typeof source === 'function' ? {} : { examples: () => hashExamples(source) }),
        options: recorded(options),
      },
      withBudget(options, pairs.stepsPerEpoch),
      emit,
    );
    const trained = [...weights].filter(([name]) => model.user.integration.owns(name));
    return {
      // What an alignment does not reach stays.
      integration: new Map([...model.user.weights, ...trained]),
      encoder: new Map([...model.user.encoder.weights, ...withoutScope(weights)]),
      record,
    };
  });
}

/** Where a run's batches come from, checked. */
class Pairs<History> {
  readonly stepsPerEpoch: number | undefined;
  readonly #epochs: ShuffledBatches<AlignmentExample<History>> | undefined;

  constructor(
    private readonly model: Model<History>,
    private readonly source: AlignmentSource<History>,
    { batchSize = trainingDefaults.batchSize, seed = trainingDefaults.seed }: Pick<TrainingSettings, 'batchSize' | 'seed'>,
  ) {
    if (!Number.isInteger(batchSize) || batchSize < 2)
      throw new AdaptationError(
        'batchSize',
        `must be a whole number of at least 2, and is ${batchSize}: pairs are told from each other`,
      );
    if (typeof source === 'function') return;
    const examples = this.checked(source, 'example');
    // Batches of about the same size: one that is left over would have too few others to be told from.
    const size = Math.ceil(examples.length / Math.ceil(examples.length / batchSize));
    this.#epochs = new ShuffledBatches(examples, () => 1, size, seed);
    this.stepsPerEpoch = this.#epochs.stepsPerEpoch;
  }

  checked(examples: readonly AlignmentExample<History>[], where: string): readonly AlignmentExample<History>[] {
    if (examples.length === 0) throw new AdaptationError('examples', 'there are none');
    examples.forEach((example, i) => checkAlignmentExample(example, this.model.decoder.config, `${where} ${i}`));
    return examples;
  }

  /** The batch of a step counted from 1, or null when there are no more. */
  async at(step: number): Promise<readonly AlignmentExample<History>[] | null> {
    const batch =
      this.#epochs?.at(step) ??
      (await (this.source as (step: number) => ReturnType<Extract<AlignmentSource<History>, (step: number) => unknown>>)(step));
    if (batch === null) return null;
    if (batch.length === 1)
      throw new AdaptationError('examples', `step ${step} has one alone, with no other to be told from; give more`);
    return this.checked(batch, `step ${step}, example`);
  }

  /** The texts of the first batches. */
  async firstTexts(batches: number): Promise<(readonly number[])[]> {
    const texts: (readonly number[])[] = [];
    for (let step = 1; step <= Math.min(batches, this.stepsPerEpoch ?? batches); step++) {
      const batch = await this.at(step);
      if (batch === null) break;
      for (const { textIds } of batch) texts.push(textIds);
    }
    return texts;
  }

  /** What the encoder reads of some users. */
  users(batch: readonly AlignmentExample<History>[]): Record<string, HostTensor> {
    const feeds = this.model.user.encoder.feeds(batch.map(({ history }) => history));
    return Object.fromEntries(withScope(Object.entries(feeds)));
  }
}

/** `[n, n]`: equal texts of different rows are out of the comparison. */
function apart(keys: readonly string[]): HostTensor {
  const n = keys.length;
  const data = new Float32Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (i !== j && keys[i] === keys[j]) data[i * n + j] = -1e4;
  return { dtype: 'float32', shape: [n, n], data };
}

async function validated<History>(
  trainer: Trainer,
  reader: TextReader,
  pairs: Pairs<History>,
  held: readonly AlignmentExample<History>[],
): Promise<Validated> {
  const users: Float32Array[] = [];
  const texts: Float32Array[] = [];
  let sharpness = 1;
  for (let start = 0; start < held.length; start += usersAtOnce) {
    const part = held.slice(start, start + usersAtOnce);
    const text_states = await reader.read(part.map(({ textIds }) => textIds));
    const found = await trainer.evaluate({ ...pairs.users(part), text_states }, ['users', 'texts', 'sharpness']);
    users.push(...rowsOf(found.users));
    texts.push(...rowsOf(found.texts));
    sharpness = (found.sharpness.data as Float32Array)[0];
  }
  const keys = held.map(({ textIds }) => textKey(textIds));
  return { ...foundPairs(users, texts, keys, sharpness) };
}

function rowsOf({ data, shape: [rows, width] }: HostTensor): Float32Array[] {
  return Array.from({ length: rows }, (_, i) => (data as Float32Array).slice(i * width, (i + 1) * width));
}

/** A list is learned from for three epochs where no budget is given, as in an adaptation. */
function withBudget<History>(options: AlignOptions<History>, stepsPerEpoch: number | undefined): AlignOptions<History> {
  const given = options.steps ?? options.epochs ?? options.seconds;
  return given === undefined && stepsPerEpoch !== undefined ? { ...options, epochs: 3 } : options;
}

function recorded<History>(options: AlignOptions<History>): Record<string, unknown> {
  const { signal: _, checkpoint: __, validation, ...rest } = options;
  return { ...rest, ...(validation === undefined ? {} : { validationExamples: validation.examples.length }) };
}
