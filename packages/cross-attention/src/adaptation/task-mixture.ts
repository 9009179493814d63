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
  return Object.assign((step: number) => drawn(decks, step, batchSize, seed), { identity });
}

/** A run of steps is made of blocks: as many batches as their examples, sorted by length, make batches of about one length each. */
const batchesPerBlock = 16;

function drawn<History>(
  decks: readonly Deck<History>[],
  step: number,
  batchSize: number,
  seed: number,
): readonly AdaptationExample<History>[] {
  const block = Math.floor((step - 1) / batchesPerBlock);
  const size = batchesPerBlock * batchSize;
  const random = Random.of(seed, 'mixture', block);
  const examples = decks.flatMap((deck, i) => deck.cards(share(decks, i, block * size), share(decks, i, (block + 1) * size)));
  const byLength = random.shuffle(examples).sort((a, b) => bucketOf(lengthOf(a)) - bucketOf(lengthOf(b)));
  const order = random.shuffle(Array.from({ length: batchesPerBlock }, (_, i) => i));
  const start = order[(step - 1) % batchesPerBlock] * batchSize;
  return byLength.slice(start, start + batchSize);
}

const lengthOf = ({ promptIds, answerIds }: AdaptationExample): number => promptIds.length + answerIds.length;

/** How many of the first `count` examples of a run a task has. The shares of all tasks add up to `count`. */
function share<History>(decks: readonly Deck<History>[], task: number, count: number): number {
  const upTo = (tasks: number): number =>
    tasks === decks.length ? count : Math.round(decks.slice(0, tasks).reduce((sum, { part }) => sum + part, 0) * count);
  return upTo(task + 1) - upTo(task);
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
    return Array.from({ length: Math.max(0, to - from) }, (_, i) => {
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
