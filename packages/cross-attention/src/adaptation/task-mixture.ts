import { Random } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { bucketOf, type AdaptationExample } from './examples.js';
import { hashExamples } from './run-identity.js';

/** One of several tasks that a model learns at the same time. */
export interface Task<History = unknown> {
  readonly examples: readonly AdaptationExample<History>[];
  /** How often an example is drawn from this task, in proportion to the others' weights. Default 1. */
  readonly weight?: number;
}

/** Batches of several tasks. */
export interface TaskMixture<History = unknown> {
  (step: number): readonly AdaptationExample<History>[];
  /** The tasks, hashes of their examples (but for the histories), their weights and how they are drawn. */
  readonly identity: () => string;
}

/**
 * A source of batches from several tasks, for `adapt`: each batch is of one length, and over the run each task has its share of the examples
 * to within one batch. A task's examples come shuffled, all of them once before any comes again. The same step has the same batch, so that a
 * resumed run goes on where it stopped.
 */
export function mixTasks<History>(
  tasks: Readonly<Record<string, Task<History>>>,
  { batchSize = 64, seed = 1 }: { readonly batchSize?: number; readonly seed?: number } = {},
): TaskMixture<History> {
  const entries = Object.entries(tasks);
  if (entries.length === 0) throw new AdaptationError('tasks', 'there are none');
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new AdaptationError('batchSize', `must be a whole number of at least 1, and is ${batchSize}`);
  for (const [name, { examples, weight = 1 }] of entries) {
    if (examples.length === 0) throw new AdaptationError(`task '${name}'`, 'has no examples');
    if (!(weight > 0 && Number.isFinite(weight)))
      throw new AdaptationError(`task '${name}'`, `a weight must be above 0, and is ${weight}; leave the task out instead`);
  }
  const total = entries.reduce((sum, [, { weight = 1 }]) => sum + weight, 0);
  const decks = entries.map(([name, { examples, weight = 1 }]) => new Deck(examples, weight / total, seed, name));
  const identity = () =>
    JSON.stringify({
      ...{ batchSize, seed },
      tasks: entries.map(([name, { examples, weight = 1 }]) => [name, weight / total, hashExamples(examples)]),
    });
  const shares = new Shares(
    decks.map(({ part }) => part),
    batchesPerBlock * batchSize,
  );
  return Object.assign((step: number) => drawn(decks, shares, step, batchSize, seed), { identity });
}

/** A run of steps is made of blocks: as many batches as their examples, sorted by length, make batches of about one length each. */
const batchesPerBlock = 16;

function drawn<History>(
  decks: readonly Deck<History>[],
  shares: Shares,
  step: number,
  batchSize: number,
  seed: number,
): readonly AdaptationExample<History>[] {
  const block = Math.floor((step - 1) / batchesPerBlock);
  const random = Random.of(seed, 'mixture', block);
  const { before, after } = shares.of(block);
  const examples = decks.flatMap((deck, i) => deck.cards(before[i], after[i]));
  const byLength = random.shuffle(examples).sort((a, b) => bucketOf(lengthOf(a)) - bucketOf(lengthOf(b)));
  const order = random.shuffle(Array.from({ length: batchesPerBlock }, (_, i) => i));
  const start = order[(step - 1) % batchesPerBlock] * batchSize;
  return byLength.slice(start, start + batchSize);
}

const lengthOf = ({ promptIds, answerIds }: AdaptationExample): number => promptIds.length + answerIds.length;

/** How many of the first examples of a run each task has, counted before and after each block of them. */
class Shares {
  #block = 0;
  #before: readonly number[];
  #after: readonly number[];

  constructor(
    private readonly parts: readonly number[],
    private readonly size: number,
  ) {
    this.#before = parts.map(() => 0);
    this.#after = this.#next(this.#before, 1);
  }

  of(block: number): { readonly before: readonly number[]; readonly after: readonly number[] } {
    // They are counted from the beginning on: a block says nothing of the one before it.
    if (block < this.#block) {
      this.#block = 0;
      this.#before = this.parts.map(() => 0);
      this.#after = this.#next(this.#before, 1);
    }
    for (; this.#block < block; this.#block++)
      [this.#before, this.#after] = [this.#after, this.#next(this.#after, this.#block + 2)];
    return { before: this.#before, after: this.#after };
  }

  /**
   * The shares after so many blocks: the running sums of the parts, rounded, so that all add up. A small share can be one less than
   * before by that; what has been drawn stays drawn, and those that are the most ahead of their parts wait.
   */
  #next(before: readonly number[], blocks: number): readonly number[] {
    const count = blocks * this.size;
    const upTo = (tasks: number): number =>
      tasks === this.parts.length ? count : Math.round(this.parts.slice(0, tasks).reduce((sum, part) => sum + part, 0) * count);
    const next = this.parts.map((_, i) => Math.max(before[i], upTo(i + 1) - upTo(i)));
    for (let over = next.reduce((a, b) => a + b, 0) - count; over > 0; over--) {
      const ahead = next.map((share, i) => (share > before[i] ? share - this.parts[i] * count : -Infinity));
      next[ahead.indexOf(Math.max(...ahead))]--;
    }
    return next;
  }
}

/** A task's examples, shuffled again each time all have been drawn. */
class Deck<History> {
  #round = -1;
  #order: readonly AdaptationExample<History>[] = [];

  constructor(
    private readonly examples: readonly AdaptationExample<History>[],
    readonly part: number,
    private readonly seed: number,
    private readonly name: string,
  ) {}

  /** The cards drawn from one place to another, counted from the beginning of the run. */
  cards(from: number, to: number): AdaptationExample<History>[] {
    return Array.from({ length: to - from }, (_, i) => {
      const at = from + i;
      const round = Math.floor(at / this.examples.length);
      if (round !== this.#round) {
        this.#order = Random.of(this.seed, 'task', this.name, round).shuffle([...this.examples]);
        this.#round = round;
      }
      return this.#order[at % this.examples.length];
    });
  }
}
