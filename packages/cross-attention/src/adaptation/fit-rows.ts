import { Program, graph } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { makerOf } from '../items/item-tokens.js';
import type { NamedKind } from '../items/item-tokens.js';
import { RidgeSums } from '../items/ridge-sums.js';
import type { AdaptationExample } from './examples.js';
import { Feeder, rankedChoices, searchedBatches } from './feeder.js';
import type { Prepared } from './feeder.js';
import { jointWeights, rowsOf, statesDefinition } from './joint-model.js';
import type { JointModel } from './joint-model.js';
import { longestOf } from './text-rows.js';
import { gainOf } from './validation.js';

/** A prompt, and how well a teacher thinks that each item, or each label, answers it. */
export interface ScoredExample<History = unknown> extends Pick<
  AdaptationExample<History>,
  'history' | 'promptIds' | 'blindTokens'
> {
  /**
   * Logits of the items that have tokens, `[items]` in the order of `itemTokens.items` (of the labels in that of `labelTokens.items`), all
   * finite; a constant on all of them changes nothing. Scores of an encoder's item head begin with special ids, which are to be left
   * out: `scores.subarray(FIRST_VALUE_ID)` with the constant of `@user-llm/event-tokenizer`.
   */
  readonly scores: ArrayLike<number>;
}

/** Batches of scored examples, as many in each as fit into memory at once. */
export type ScoredBatches<History> =
  AsyncIterable<readonly ScoredExample<History>[]> | Iterable<readonly ScoredExample<History>[]>;

export interface FitRowsOptions<History = unknown> {
  /**
   * How strongly the rows are held at zero, next to the mean square of a number of the states. Of several, the one whose rows rank the
   * validation examples best is taken. Default 3e-4.
   */
  readonly strength?: number | readonly number[];
  /** Examples that name an item (or a label) each: the rows that there were stay if they rank those better. Default: they never stay. */
  readonly validation?: readonly AdaptationExample<History>[];
  /** Threads of one operation; the machine's cores by default. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

/** What a fit found. */
export interface FittedRows {
  /** `[items, hidden]` the rows that are to be used */
  readonly rows: HostTensor;
  /** The strength of the fitted rows. */
  readonly strength: number;
  /** NDCG of the validation examples (one right answer, no cutoff), by the rows that there were and by the fitted ones. */
  readonly ndcg?: { readonly before: number; readonly fitted: number };
}

/** Validation examples that run at once. */
const validationBatch = 64;

/**
 * Rows of the item tokens with which the model answers as a teacher does, in closed form: the ridge regression of the teacher's scores on
 * the states after the prompts. Nothing else of the model changes. A state of width H has room for H numbers of what its user is like;
 * some thousand examples determine the rows.
 */
export const fitItemRows = <History>(
  model: JointModel<History>,
  batches: ScoredBatches<History>,
  options: FitRowsOptions<History> = {},
): Promise<FittedRows> => fitRows('item', model, batches, options);

/**
 * Rows of the labels' tokens, as `fitItemRows` finds them. The scores may be the truth: 1 for the right label and 0 for the others makes
 * the regression a linear classifier of the states (the discriminant of least squares: Hastie, Tibshirani and Friedman, The Elements of
 * Statistical Learning, 4.2).
 */
export const fitLabelRows = <History>(
  model: JointModel<History>,
  batches: ScoredBatches<History>,
  options: FitRowsOptions<History> = {},
): Promise<FittedRows> => fitRows('label', model, batches, options);

async function fitRows<History>(
  kind: NamedKind,
  model: JointModel<History>,
  batches: ScoredBatches<History>,
  { strength = 3e-4, validation, threads, signal }: FitRowsOptions<History>,
): Promise<FittedRows> {
  const before = rowsOf(model, kind);
  if (before === undefined) throw new AdaptationError('model', `has no ${kind} tokens; make some with ${makerOf[kind]}`);
  const strengths = checkedStrengths(strength, validation !== undefined);
  const [count, hidden] = before.shape;
  const states = await PromptStates.open(kind, model, threads);
  const products = await ScoreProducts.open(hidden, count, threads);
  try {
    const sums = new RidgeSums(hidden, count);
    // Their histories, too, can stand in for rows without a user.
    const validated = validation && validationRows(states, validation);
    const waiting: { rows: readonly Prepared<History>[]; scores: HostTensor }[] = [];
    const addWaiting = async () => {
      for (const { rows, scores } of waiting.splice(0)) {
        signal?.throwIfAborted();
        const found = await states.of(rows);
        sums.add(found, await products.of(found, scores));
      }
    };
    for await (const batch of batches) {
      const named = batch.map(({ scores: _, ...example }) => ({ ...example, answerIds: [], ...someAnswer[kind] }));
      waiting.push({ rows: states.feeder.rows(named, 'scored example'), scores: centredScores(batch, kind, count) });
      if (states.feeder.hasHistory || waiting.length === searchedBatches) await addWaiting();
    }
    await addWaiting();
    if (sums.examples === 0) throw new AdaptationError('examples', 'there are none');
    const fitted = strengths.map((each): Fitted => ({ strength: each, rows: finite(sums.solution(each), each) }));
    if (validated === undefined) return fitted[0];
    return await best(states, validated, before, fitted, signal);
  } finally {
    await states.dispose();
    await products.dispose();
  }
}

type Fitted = Pick<FittedRows, 'rows' | 'strength'>;

/** What makes a row have a place for its answer, whichever it is. */
const someAnswer: Record<NamedKind, Pick<AdaptationExample, 'items' | 'labels'>> = {
  item: { items: [{ item: 0 }] },
  label: { labels: [{ label: 0 }] },
};

function checkedStrengths(strength: number | readonly number[], compared: boolean): readonly number[] {
  const strengths = typeof strength === 'number' ? [strength] : strength;
  const bad = strengths.find((each) => !(each > 0));
  if (bad !== undefined) throw new AdaptationError('strength', `must be above 0, and is ${bad}`);
  if (strengths.length === 0) throw new AdaptationError('strength', 'there is none to choose from');
  if (strengths.length > 1 && !compared)
    throw new AdaptationError(
      'strength',
      `${strengths.length} are given; give validation examples to choose by, or one strength`,
    );
  return strengths;
}

/** Refuses what rounding alone has made of states of which some numbers follow from the others. */
function finite(rows: HostTensor, strength: number): HostTensor {
  if ((rows.data as Float32Array).every(Number.isFinite)) return rows;
  throw new AdaptationError(
    'strength',
    `${strength} is too little for these states to determine the rows; give more, or more examples`,
  );
}

/** Runs the joint model up to the states that name items, or labels. */
class PromptStates<History> {
  readonly feeder: Feeder<History>;

  private constructor(
    readonly kind: NamedKind,
    model: JointModel<History>,
    private readonly program: Program,
  ) {
    this.feeder = new Feeder(model, {});
  }

  static async open<History>(kind: NamedKind, model: JointModel<History>, threads: number | undefined) {
    const options = { weights: jointWeights(model), ...(threads === undefined ? {} : { threads }) };
    return new PromptStates(kind, model, await Program.create(statesDefinition(model), options));
  }

  /** States [n, hidden] of rows that have one answer each. */
  async of(rows: readonly Prepared<History>[]): Promise<HostTensor> {
    const length = longestOf(rows.map(({ row }) => row));
    const at = Int32Array.from(rows, ({ row }, i) => i * length + row.named[this.kind][0].position);
    const places = { dtype: 'int32', data: at, shape: [at.length] } as const;
    return (await this.program.run({ ...this.feeder.inputs(rows), state_rows: places })).states;
  }

  dispose(): Promise<void> {
    return this.program.dispose();
  }
}

/** The product of states and their scores, which are many where there are many items. */
class ScoreProducts {
  private constructor(private readonly program: Program) {}

  static async open(hidden: number, count: number, threads: number | undefined): Promise<ScoreProducts> {
    const product = graph(({ input }) => ({
      product: input('states', ['examples', hidden]).matmul(input('scores', ['examples', count]), { transposeA: true }),
    }));
    return new ScoreProducts(
      await Program.create(product, { weights: new Map(), ...(threads === undefined ? {} : { threads }) }),
    );
  }

  /** `[hidden, items]`, of `states` [n, hidden] and `scores` [n, items]. */
  async of(states: HostTensor, scores: HostTensor): Promise<HostTensor> {
    return (await this.program.run({ states, scores })).product;
  }

  dispose(): Promise<void> {
    return this.program.dispose();
  }
}

function validationRows<History>(
  { kind, feeder }: PromptStates<History>,
  validation: readonly AdaptationExample<History>[],
): readonly Prepared<History>[] {
  const rows = feeder.rows(validation, 'validation example');
  if (rows.some(({ row }) => row.named[kind].length !== 1 || row.named[kind][0].distribution !== undefined))
    throw new AdaptationError('validation', `each example names one ${kind} by its token, and one of them does not`);
  return rows;
}

/** Of several fits the one that ranks validation examples best, and the rows that there were where they rank them better still. */
async function best<History>(
  states: PromptStates<History>,
  rows: readonly Prepared<History>[],
  before: HostTensor,
  fitted: readonly Fitted[],
  signal: AbortSignal | undefined,
): Promise<FittedRows> {
  const { kind } = states;
  const tables = [before, ...fitted.map((each) => each.rows)];
  const gains = tables.map(() => 0);
  for (let start = 0; start < rows.length; start += validationBatch) {
    signal?.throwIfAborted();
    const part = rows.slice(start, start + validationBatch);
    const found = await states.of(part);
    const hidden = found.shape[1];
    rankedChoices(kind, part).forEach((right, i) => {
      const state = (found.data as Float32Array).subarray(i * hidden, (i + 1) * hidden);
      tables.forEach((table, j) => (gains[j] += gainOf(right, logitsOf(state, table.data as Float32Array)) / rows.length));
    });
  }
  const [kept, ...of] = gains;
  const most = of.reduce((most, gain, i) => (gain > of[most] ? i : most), 0);
  const { strength, rows: found } = fitted[most];
  return { rows: kept > of[most] ? before : found, strength, ndcg: { before: kept, fitted: of[most] } };
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
function centredScores<History>(batch: readonly ScoredExample<History>[], kind: NamedKind, count: number): HostTensor {
  const data = new Float32Array(batch.length * count);
  batch.forEach(({ scores }, row) => {
    if (scores.length !== count)
      throw new AdaptationError('scores', `an example has ${scores.length} of them for the ${count} ${kind}s that have a token`);
    let mean = 0;
    for (let i = 0; i < count; i++) mean += scores[i] / count;
    if (!Number.isFinite(mean)) throw new AdaptationError('scores', 'an example has one that is not a finite number');
    for (let i = 0; i < count; i++) data[row * count + i] = scores[i] - mean;
  });
  return { dtype: 'float32', shape: [batch.length, count], data };
}
