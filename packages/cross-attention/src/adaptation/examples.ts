import { Random } from '@user-llm/onnx-autograd';
import type { TokenDistribution } from '../ranking/title-distributions.js';

/** One example: what the model reads, and what it should say. */
export interface AdaptationExample<History = unknown> {
  /** What the encoder reads of the user. Without one the example is the base model's: nothing is read of any user. */
  readonly history?: History;
  /** Token ids of the prompt, without placeholders: those of a soft prompt are put in. */
  readonly promptIds: readonly number[];
  /** Token ids of the answer; the loss is on these. End it with the end token. */
  readonly answerIds: readonly number[];
  /** How many tokens at the prompt's beginning do not read the user; needs a model with a `blindPrefix`, whose rule holds otherwise. */
  readonly blindTokens?: number;
  /** Weight of the prompt's own tokens in the loss. Default 0. */
  readonly promptWeight?: number;
  /** A weight for each token of the answer. Default 1 for all. See `choiceWeights`. */
  readonly answerWeights?: readonly number[];
  /**
   * What each token of the answer should be where more than one is right: the loss there is the cross-entropy to the distribution, and
   * the answer's own token is only what the next one follows. Default: the answer's tokens alone. See `titleDistributions`.
   */
  readonly answerDistributions?: readonly (TokenDistribution | undefined)[];
  /** Items that the model should name by their tokens; then the answer in words may be empty. Needs a model with item tokens. */
  readonly items?: readonly ItemAnswer[];
  /** Labels that the model should name by their tokens, as `items`. Needs a model with label tokens. */
  readonly labels?: readonly LabelAnswer[];
}

/** An item that is to be named by its token. */
export interface ItemAnswer extends NamedAnswer {
  /** Its place among the model's item tokens. */
  readonly item: number;
}

/** A label that is to be named by its token. */
export interface LabelAnswer extends NamedAnswer {
  /** Its place among the model's label tokens. */
  readonly label: number;
}

/** An answer that is one token of an item or a label. */
export interface NamedAnswer {
  /** Place in `promptIds` of the token that it comes after. Default: the last one. */
  readonly after?: number;
  /** Weight in the loss, where a token of the answer has 1. Default 1. */
  readonly weight?: number;
  /** How probable each item (or label) is, `[items]`, where more than one is right; they sum to 1. Default: the one alone. */
  readonly probabilities?: ArrayLike<number>;
  /**
   * Items that are no answers any more, such as those that the user has: the answer is not told from them, in training and in a
   * validation by ranking. A model that was trained so says nothing of them: leave them out of its rankings (`exclude`). The answer itself,
   * and what has a probability above zero, count all the same.
   */
  readonly excluded?: Iterable<number>;
}

/**
 * Where examples come from: a list, shuffled anew in each epoch, or a function from the step (counted from 1) to its batch, or null at the
 * end. The function must give the same batch for the same step, so that a resumed run can enter anywhere.
 */
export type ExampleSource<History> = readonly AdaptationExample<History>[] | ExampleBatches<History>;

/** A function that gives a step its batch. */
export interface ExampleBatches<History> {
  (step: number): readonly AdaptationExample<History>[] | Promise<readonly AdaptationExample<History>[] | null> | null;
  /** Tells it from others, so that a checkpoint does not go on with another one. `mixTasks` gives one. */
  readonly identity?: () => string;
}

/** Rounds a length up to one of a row of steps: texts of one step are about equally long. */
export function bucketOf(length: number): number {
  const unit = length <= 64 ? 8 : length <= 128 ? 16 : length <= 512 ? 64 : 256;
  return Math.ceil(length / unit) * unit;
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
