import { Random } from '@user-llm/onnx-autograd';
import type { Feeds, HostTensor } from '@user-llm/onnx-autograd';
import { AdaptationError, DoesNotFitError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Integration, UserShape } from '../integration/integration.js';

/** One example: what the model reads, and what it should say. */
export interface AdaptationExample<History = unknown> {
  /** What the encoder reads of the user. Without one the example is the base model's: nothing is read of any user. */
  readonly history?: History;
  /** Token ids of the prompt, without placeholders: those of a soft prompt are put in. */
  readonly promptIds: readonly number[];
  /** Token ids of the answer; the loss is on these. End it with the end token. */
  readonly answerIds: readonly number[];
  /** Weight of the prompt's own tokens in the loss. Default 0. */
  readonly promptWeight?: number;
  /** A weight for each token of the answer. Default 1 for all. See `choiceWeights`. */
  readonly answerWeights?: readonly number[];
}

/**
 * Where examples come from: a list, shuffled anew in each epoch, or a function from the step (counted from 1) to its batch, or null at the
 * end. The function must give the same batch for the same step, so that a resumed run can enter anywhere.
 */
export type ExampleSource<History> =
  | readonly AdaptationExample<History>[]
  | ((step: number) => readonly AdaptationExample<History>[] | Promise<readonly AdaptationExample<History>[] | null> | null);

/** An example as a row of the graph. */
export interface TextRow {
  /** Ids that go in, `[length]`; the last token of the answer only comes out. */
  readonly input: Int32Array;
  /** Positions whose next token carries loss, that token, and its weight. */
  readonly positions: Int32Array;
  readonly targets: Int32Array;
  readonly weights: Float32Array;
}

/** The placeholders of a soft prompt: `count` ids from `firstId`, after a begin token. */
export interface Placeholders {
  readonly count: number;
  readonly firstId: number;
  readonly beginToken?: number;
}

/** The placeholders that a user takes in a prompt. */
export function placeholdersOf(
  config: DecoderConfig,
  user: { readonly integration: Integration; readonly shape: UserShape } | undefined,
): Placeholders {
  return {
    count: user === undefined ? 0 : user.integration.placeholders(user.shape),
    firstId: config.vocabularySize,
    ...(config.beginToken === undefined ? {} : { beginToken: config.beginToken }),
  };
}

/** Puts a user's placeholders into a prompt: before it, but after its begin token. */
export function withPlaceholders(promptIds: readonly number[], { count, firstId, beginToken }: Placeholders): number[] {
  const start = beginToken !== undefined && promptIds[0] === beginToken ? 1 : 0;
  const ids = Array.from({ length: count }, (_, i) => firstId + i);
  return [...promptIds.slice(0, start), ...ids, ...promptIds.slice(start)];
}

/** An example as a row; `where` names it in errors. */
export function textRow(
  example: AdaptationExample,
  model: { readonly vocabularySize: number; readonly contextLength: number; readonly placeholders: Placeholders },
  where: string,
): TextRow {
  const { answerIds, promptWeight = 0, answerWeights } = example;
  const placeholders = example.history === undefined ? { ...model.placeholders, count: 0 } : model.placeholders;
  const prompt = withPlaceholders(example.promptIds, placeholders);
  const all = [...prompt, ...answerIds];
  const bad = [...example.promptIds, ...answerIds].find((id) => !(Number.isInteger(id) && id >= 0 && id < model.vocabularySize));
  if (bad !== undefined) throw new AdaptationError(where, `token id ${bad} is outside the vocabulary of ${model.vocabularySize}`);
  if (answerIds.length === 0) throw new AdaptationError(where, 'the answer is empty; give at least the end token');
  if (answerWeights !== undefined && answerWeights.length !== answerIds.length)
    throw new AdaptationError(where, `has ${answerWeights.length} weights for the ${answerIds.length} tokens of its answer`);
  if (all.length < 2) throw new AdaptationError(where, 'one token alone has nothing to be predicted from; give a prompt');
  if (all.length > model.contextLength) throw new DoesNotFitError(all.length, model.contextLength, where);
  const positions: number[] = [];
  const weights: number[] = [];
  for (let at = 1; at < all.length; at++) {
    const weight = at < prompt.length ? promptWeight : (answerWeights?.[at - prompt.length] ?? 1);
    if (weight === 0 || all[at] >= model.vocabularySize) continue;
    positions.push(at - 1);
    weights.push(weight);
  }
  return {
    input: Int32Array.from(all.slice(0, -1)),
    positions: Int32Array.from(positions),
    targets: Int32Array.from(positions, (at) => all[at + 1]),
    weights: Float32Array.from(weights),
  };
}

/** Rounds a length up to one of a row of steps: texts of one step are about equally long. */
export function bucketOf(length: number): number {
  const unit = length <= 64 ? 8 : length <= 128 ? 16 : length <= 512 ? 64 : 256;
  return Math.ceil(length / unit) * unit;
}

const int32 = (data: Int32Array, shape: readonly number[]): HostTensor => ({ dtype: 'int32', data, shape });
const float = (data: Float32Array, shape: readonly number[]): HostTensor => ({ dtype: 'float32', data, shape });

/** The text inputs of the training graph for some rows, padded to the longest. */
export function textFeeds(rows: readonly TextRow[], present: readonly boolean[], normalizer: number): Feeds {
  const length = Math.max(...rows.map(({ input }) => input.length));

  const ids = new Int32Array(rows.length * length);
  // At least one, of no weight, so that no input is empty.
  const size = Math.max(
    1,
    rows.reduce((sum, row) => sum + row.positions.length, 0),
  );
  const at = new Int32Array(size);
  const targets = new Int32Array(size);
  const weights = new Float32Array(size);
  let next = 0;
  rows.forEach((row, i) => {
    ids.set(row.input, i * length);
    for (let j = 0; j < row.positions.length; j++, next++) {
      at[next] = i * length + row.positions[j];
      targets[next] = row.targets[j];
      weights[next] = row.weights[j];
    }
  });
  return {
    input_ids: int32(ids, [rows.length, length]),
    user_present: float(Float32Array.from(present, Number), [rows.length]),
    target_rows: int32(at, [size]),
    targets: int32(targets, [size]),
    target_weights: float(weights, [size]),
    normalizer: float(Float32Array.of(normalizer), []),
  };
}

/**
 * Seeded, shuffled epochs over a list, as batches of examples of about the same length; what is left over makes mixed batches at random
 * places. Any step can be asked for.
 */
export class ShuffledBatches<T> {
  readonly stepsPerEpoch: number;
  #epoch = -1;
  #batches: T[][] = [];

  constructor(
    private readonly items: readonly T[],
    private readonly lengthOf: (item: T) => number,
    private readonly batchSize: number,
    private readonly seed: number,
  ) {
    this.stepsPerEpoch = this.#shuffled(0).length;
  }

  /** The batch of a step counted from 1. */
  at(step: number): readonly T[] {
    const epoch = Math.floor((step - 1) / this.stepsPerEpoch);
    if (epoch !== this.#epoch) {
      this.#batches = this.#shuffled(epoch);
      this.#epoch = epoch;
    }
    return this.#batches[(step - 1) % this.stepsPerEpoch];
  }

  #shuffled(epoch: number): T[][] {
    const random = Random.of(this.seed, 'epoch', epoch);
    const open = new Map<number, T[]>();
    const batches: T[][] = [];
    for (const item of random.shuffle([...this.items])) {
      const bucket = bucketOf(this.lengthOf(item));
      const waiting = open.get(bucket) ?? [];
      open.set(bucket, waiting);
      waiting.push(item);
      if (waiting.length < this.batchSize) continue;
      batches.push(waiting);
      open.delete(bucket);
    }
    const rest = [...open].sort(([a], [b]) => a - b).flatMap(([, items]) => items);
    for (let start = 0; start < rest.length; start += this.batchSize) batches.push(rest.slice(start, start + this.batchSize));
    return random.shuffle(batches);
  }
}
