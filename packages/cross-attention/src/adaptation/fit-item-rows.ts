import { Program } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { solve } from '../items/ridge-regression.js';
import type { AdaptationExample } from './examples.js';
import { Feeder } from './feeder.js';
import { jointWeights, statesDefinition } from './joint-model.js';
import type { JointModel } from './joint-model.js';
import { longestOf } from './text-rows.js';

/** A prompt, and how well a teacher thinks that each item answers it. */
export interface ScoredExample<History = unknown> extends Pick<
  AdaptationExample<History>,
  'history' | 'promptIds' | 'blindTokens'
> {
  /** Logits of the items, `[items]`; a constant on all of them changes nothing. */
  readonly scores: ArrayLike<number>;
}

export interface FitItemsOptions {
  /** How strongly the rows are held at zero, next to the mean square of a number of the states. Default 3e-4. */
  readonly strength?: number;
  /** Threads of one operation; the machine's cores by default. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** What `fitItemRows` found. */
export interface FittedItems {
  /** `[items, hidden]` */
  readonly rows: HostTensor;
  readonly examples: number;
}

/**
 * Rows of the item tokens with which the model answers as a teacher does, in closed form: the ridge regression of the teacher's scores on
 * the states after the prompts. Nothing else of the model changes. A state of width H has room for H numbers of what its user is like;
 * some thousand examples determine the rows.
 */
export async function fitItemRows<History>(
  model: JointModel<History>,
  batches: AsyncIterable<readonly ScoredExample<History>[]> | Iterable<readonly ScoredExample<History>[]>,
  { strength = 3e-4, threads, signal }: FitItemsOptions = {},
): Promise<FittedItems> {
  const [items, hidden] = model.itemRows?.shape ?? [0];
  if (items === 0) throw new AdaptationError('model', 'has no item tokens; make some with withItemTokens');
  if (!(strength > 0)) throw new AdaptationError('strength', `must be above 0, and is ${strength}`);
  const feeder = new Feeder(model, {});
  const program = await Program.create(statesDefinition(model), {
    weights: jointWeights(model),
    ...(threads === undefined ? {} : { threads }),
  });
  const gram = new Float64Array(hidden * hidden);
  const products = new Float64Array(hidden * items);
  let examples = 0;
  try {
    for await (const batch of batches) {
      signal?.throwIfAborted();
      const rows = feeder.rows(
        batch.map(({ scores: _, ...example }) => ({ ...example, answerIds: [], items: [{ item: 0 }] })),
        'scored example',
      );
      const length = longestOf(rows.map(({ row }) => row));
      const at = Int32Array.from(rows, ({ row }, i) => i * length + row.items[0].position);
      const results = await program.run({
        ...feeder.inputs(rows),
        state_rows: { dtype: 'int32', data: at, shape: [at.length] },
        scores: centredScores(batch, items),
      });
      addGram(gram, results.states.data as Float32Array, hidden);
      const added = results.products.data as Float32Array;
      for (let i = 0; i < added.length; i++) products[i] += added[i];
      examples += batch.length;
    }
  } finally {
    await program.dispose();
  }
  if (examples === 0) throw new AdaptationError('examples', 'there are none');
  let trace = 0;
  for (let i = 0; i < hidden; i++) trace += gram[i * hidden + i];
  const solution = solve(gram, products, hidden, items, (strength * trace) / hidden);
  const data = new Float32Array(items * hidden);
  for (let i = 0; i < hidden; i++) for (let item = 0; item < items; item++) data[item * hidden + i] = solution[i * items + item];
  return { rows: { dtype: 'float32', shape: [items, hidden], data }, examples };
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

/** Adds the lower half of the states' products with one another. */
function addGram(gram: Float64Array, states: Float32Array, hidden: number): void {
  for (let row = 0; row < states.length; row += hidden)
    for (let i = 0; i < hidden; i++) {
      const value = states[row + i];
      for (let j = 0; j <= i; j++) gram[i * hidden + j] += value * states[row + j];
    }
}
