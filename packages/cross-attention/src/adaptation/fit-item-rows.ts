import { Program } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { solve } from '../items/ridge-regression.js';
import type { AdaptationExample } from './examples.js';
import { Feeder, rankedItems } from './feeder.js';
import type { Prepared } from './feeder.js';
import { jointWeights, statesDefinition } from './joint-model.js';
import type { JointModel } from './joint-model.js';
import { longestOf } from './text-rows.js';
import { gainOf } from './validation.js';
import type { RankedItem } from './validation.js';

/** A prompt, and how well a teacher thinks that each item answers it. */
export interface ScoredExample<History = unknown> extends Pick<
  AdaptationExample<History>,
  'history' | 'promptIds' | 'blindTokens'
> {
  /** Logits of the items, `[items]`; a constant on all of them changes nothing. */
  readonly scores: ArrayLike<number>;
}

export interface FitItemsOptions<History = unknown> {
  /** How strongly the rows are held at zero, next to the mean square of a number of the states. Default 3e-4. */
  readonly strength?: number;
  /** Examples that name an item each: the rows that there were stay if they rank those better. Default: they never stay. */
  readonly validation?: readonly AdaptationExample<History>[];
  /** Threads of one operation; the machine's cores by default. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** What `fitItemRows` found. */
export interface FittedItems {
  /** `[items, hidden]` the rows that are to be used */
  readonly rows: HostTensor;
  /** NDCG of the validation examples (one relevant item, no cutoff), by the rows that there were and by the fitted ones. */
  readonly ndcg?: { readonly before: number; readonly fitted: number };
}

/** Validation examples that run at once. */
const validationBatch = 64;

/**
 * Rows of the item tokens with which the model answers as a teacher does, in closed form: the ridge regression of the teacher's scores on
 * the states after the prompts. Nothing else of the model changes. A state of width H has room for H numbers of what its user is like;
 * some thousand examples determine the rows.
 */
export async function fitItemRows<History>(
  model: JointModel<History>,
  batches: AsyncIterable<readonly ScoredExample<History>[]> | Iterable<readonly ScoredExample<History>[]>,
  { strength = 3e-4, validation, threads, signal }: FitItemsOptions<History> = {},
): Promise<FittedItems> {
  const before = model.itemRows;
  if (before === undefined) throw new AdaptationError('model', 'has no item tokens; make some with withItemTokens');
  if (!(strength > 0)) throw new AdaptationError('strength', `must be above 0, and is ${strength}`);
  const [items] = before.shape;
  const states = await PromptStates.open(model, threads);
  try {
    const sums = new ProductSums(items, model.decoder.config.hiddenSize);
    for await (const batch of batches) {
      signal?.throwIfAborted();
      const named = batch.map(({ scores: _, ...example }) => ({ ...example, answerIds: [], items: [{ item: 0 }] }));
      const scores = centredScores(batch, items);
      sums.add(await states.of(states.feeder.rows(named, 'scored example'), scores));
    }
    const rows = sums.solution(strength);
    if (validation === undefined) return { rows };
    const ndcg = await compare(states, validation, before, rows, signal);
    return { rows: ndcg.before > ndcg.fitted ? before : rows, ndcg };
  } finally {
    await states.dispose();
  }
}

/** Runs the joint model up to the states that name items. */
class PromptStates<History> {
  readonly feeder: Feeder<History>;

  private constructor(
    model: JointModel<History>,
    private readonly program: Program,
  ) {
    this.feeder = new Feeder(model, {});
  }

  static async open<History>(model: JointModel<History>, threads: number | undefined): Promise<PromptStates<History>> {
    const options = { weights: jointWeights(model), ...(threads === undefined ? {} : { threads }) };
    return new PromptStates(model, await Program.create(statesDefinition(model), options));
  }

  /** `states` [n, hidden] of rows that name one item each, and `products` [hidden, items] with their scores [n, items]. */
  async of(rows: readonly Prepared<History>[], scores: HostTensor): Promise<{ states: Float32Array; products: Float32Array }> {
    const length = longestOf(rows.map(({ row }) => row));
    const at = Int32Array.from(rows, ({ row }, i) => i * length + row.items[0].position);
    const { states, products } = await this.program.run({
      ...this.feeder.inputs(rows),
      state_rows: { dtype: 'int32', data: at, shape: [at.length] },
      scores,
    });
    return { states: states.data as Float32Array, products: products.data as Float32Array };
  }

  dispose(): Promise<void> {
    return this.program.dispose();
  }
}

/** The normal equations of the regression. */
class ProductSums {
  readonly #gram: Float64Array;
  readonly #products: Float64Array;
  #examples = 0;

  constructor(
    private readonly items: number,
    private readonly hidden: number,
  ) {
    this.#gram = new Float64Array(hidden * hidden);
    this.#products = new Float64Array(hidden * items);
  }

  add({ states, products }: { readonly states: Float32Array; readonly products: Float32Array }): void {
    const { hidden } = this;
    for (let row = 0; row < states.length; row += hidden) {
      // Of the symmetric products the lower half.
      for (let i = 0; i < hidden; i++) {
        const value = states[row + i];
        for (let j = 0; j <= i; j++) this.#gram[i * hidden + j] += value * states[row + j];
      }
    }
    for (let i = 0; i < products.length; i++) this.#products[i] += products[i];
    this.#examples += states.length / hidden;
  }

  solution(strength: number): HostTensor {
    const { items, hidden } = this;
    if (this.#examples === 0) throw new AdaptationError('examples', 'there are none');
    let trace = 0;
    for (let i = 0; i < hidden; i++) trace += this.#gram[i * hidden + i];
    const solution = solve(this.#gram, this.#products, hidden, items, (strength * trace) / hidden);
    const data = new Float32Array(items * hidden);
    for (let i = 0; i < hidden; i++)
      for (let item = 0; item < items; item++) data[item * hidden + i] = solution[i * items + item];
    return { dtype: 'float32', shape: [items, hidden], data };
  }
}

/** How well two tables of rows rank validation examples. */
async function compare<History>(
  states: PromptStates<History>,
  validation: readonly AdaptationExample<History>[],
  before: HostTensor,
  fitted: HostTensor,
  signal: AbortSignal | undefined,
): Promise<{ before: number; fitted: number }> {
  const [items, hidden] = before.shape;
  const rows = states.feeder.rows(validation, 'validation example');
  if (rows.some(({ row }) => row.items.length !== 1 || row.items[0].distribution !== undefined))
    throw new AdaptationError('validation', 'each example names one item by its token, and one of them does not');
  const gains = { before: 0, fitted: 0 };
  for (let start = 0; start < rows.length; start += validationBatch) {
    signal?.throwIfAborted();
    const part = rows.slice(start, start + validationBatch);
    const noScores = { dtype: 'float32', data: new Float32Array(part.length * items), shape: [part.length, items] } as const;
    const found = await states.of(part, noScores);
    rankedItems(part).forEach((right: RankedItem, i) => {
      const state = found.states.subarray(i * hidden, (i + 1) * hidden);
      gains.before += gainOf(right, logitsOf(state, before.data as Float32Array));
      gains.fitted += gainOf(right, logitsOf(state, fitted.data as Float32Array));
    });
  }
  return { before: gains.before / rows.length, fitted: gains.fitted / rows.length };
}

function logitsOf(state: Float32Array, rows: Float32Array): Float32Array {
  const logits = new Float32Array(rows.length / state.length);
  for (let item = 0, at = 0; item < logits.length; item++) {
    let sum = 0;
    for (const value of state) sum += value * rows[at++];
    logits[item] = sum;
  }
  return logits;
}

/** The scores of a batch, each example's about their mean. */
function centredScores<History>(batch: readonly ScoredExample<History>[], items: number): HostTensor {
  const data = new Float32Array(batch.length * items);
  batch.forEach(({ scores }, row) => {
    if (scores.length !== items)
      throw new AdaptationError('scores', `an example has ${scores.length} of them for the ${items} items that have a token`);
    let mean = 0;
    for (let i = 0; i < items; i++) mean += scores[i] / items;
    if (!Number.isFinite(mean)) throw new AdaptationError('scores', 'an example has one that is not a finite number');
    for (let i = 0; i < items; i++) data[row * items + i] = scores[i] - mean;
  });
  return { dtype: 'float32', shape: [batch.length, items], data };
}
