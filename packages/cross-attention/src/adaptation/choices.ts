import { crossEntropy, linearCrossEntropy, maskBias } from '@user-llm/onnx-autograd';
import type { Feeds, GraphBuilder, HostTensor, Tensor } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import type { NamedKind } from '../items/item-tokens.js';

/** Among what a state chooses: the vocabulary's tokens, or the items or labels that have tokens of their own. */
export type ChoiceKind = 'token' | NamedKind;

/** What the state at a position of a row should choose. */
export interface Choice {
  readonly position: number;
  /** The one that is right, where no distribution says more. */
  readonly target: number;
  readonly weight: number;
  readonly distribution?: ChoiceDistribution | undefined;
  /** Choices that this one is not told from; none for tokens. */
  readonly excluded?: Iterable<number> | undefined;
}

/** How probable choices are; they sum to 1. Without `ids` the i-th probability is choice i's. */
export interface ChoiceDistribution {
  readonly ids?: ArrayLike<number>;
  readonly probabilities: ArrayLike<number>;
}

/** Inputs of the choices of a kind. */
const inputsOf = (kind: ChoiceKind) => ({
  rows: `${kind}_rows`,
  targets: `${kind}_targets`,
  weights: `${kind}_weights`,
  distributionRows: `${kind}_distribution_rows`,
  distributions: `${kind}_distributions`,
  told: `${kind}_told`,
  distributionTold: `${kind}_distribution_told`,
});

/** What a graph has of choices. */
export interface ChoiceOutputs {
  /** [] the weighted cross-entropies, summed */
  readonly loss: Tensor;
  /** [n, choices] of the states with one right choice */
  readonly logits: Tensor;
}

/**
 * The loss of choices: a softmax over all of them, read from those of the states that make one. Inputs are
 * `KIND_rows`, `KIND_targets`, `KIND_weights` [n], and `KIND_distribution_rows` [m] with the weighted `KIND_distributions` [m, choices]; but
 * for tokens also what each is told from, booleans `KIND_told` [n, choices] and `KIND_distribution_told` [m, choices].
 *
 * @param states [N, hidden]
 * @param table [choices, hidden]
 */
export function choiceOutputs(builder: GraphBuilder, kind: ChoiceKind, states: Tensor, table: Tensor): ChoiceOutputs {
  const names = inputsOf(kind);
  const [single, spread] = [`${kind}s`, `${kind}s_spread`];
  const at = builder.input(names.rows, [single], 'int32');
  const targets = builder.input(names.targets, [single], 'int32');
  const weights = builder.input(names.weights, [single]);
  const choosing = states.gather(at);
  const logits = choosing.matmul(table, { transposeB: true });
  // Of the many tokens none is left out, and their logits need not be held.
  const amongTold = (scores: Tensor, name: string, axis: string): Tensor =>
    kind === 'token' ? scores : scores.add(maskBias(builder.input(name, [axis, table.shape[0]], 'bool')));
  const losses =
    kind === 'token'
      ? linearCrossEntropy(choosing, table, targets)
      : crossEntropy(amongTold(logits, names.told, single), targets);
  const spreadAt = builder.input(names.distributionRows, [spread], 'int32');
  const distributions = builder.input(names.distributions, [spread, table.shape[0]]);
  const spreadLogits = states.gather(spreadAt).matmul(table, { transposeB: true });
  const logProbabilities = amongTold(spreadLogits, names.distributionTold, spread).logSoftmax();
  return { loss: losses.mul(weights).sum().sub(logProbabilities.mul(distributions).sum()), logits };
}

/** The inputs of `choiceOutputs` for rows that are padded to `length`. */
export function choiceFeeds(kind: ChoiceKind, rows: readonly (readonly Choice[])[], length: number, choices: number): Feeds {
  const placed = rows.flatMap((row, i) => row.map((choice) => ({ ...choice, at: i * length + choice.position })));
  const single = placed.filter(({ distribution }) => distribution === undefined);
  const spread = placed.filter(({ distribution }) => distribution !== undefined);
  // At least one of each, of no weight, so that no input is empty.
  if (single.length === 0) single.push({ at: 0, position: 0, target: 0, weight: 0 });
  const places = Math.max(1, spread.length);
  const distributions = new Float32Array(places * choices);
  spread.forEach(({ weight, distribution }, i) => {
    const { ids, probabilities } = distribution!;
    for (let j = 0; j < probabilities.length; j++) distributions[i * choices + (ids ? ids[j] : j)] += weight * probabilities[j];
  });
  const told = (of: readonly Choice[], isRight: (choice: Choice, other: number) => boolean): HostTensor => {
    const data = new Uint8Array(Math.max(1, of.length) * choices).fill(1);
    of.forEach((choice, i) => {
      for (const other of choice.excluded ?? []) if (!isRight(choice, other)) data[i * choices + other] = 0;
    });
    return { dtype: 'bool', data, shape: [Math.max(1, of.length), choices] };
  };
  const int32 = (values: readonly number[]) =>
    ({ dtype: 'int32', data: Int32Array.from(values), shape: [values.length] }) as const;
  const names = inputsOf(kind);
  return {
    [names.rows]: int32(single.map(({ at }) => at)),
    [names.targets]: int32(single.map(({ target }) => target)),
    [names.weights]: { dtype: 'float32', data: Float32Array.from(single, ({ weight }) => weight), shape: [single.length] },
    [names.distributionRows]: int32(spread.length === 0 ? [0] : spread.map(({ at }) => at)),
    [names.distributions]: { dtype: 'float32', data: distributions, shape: [places, choices] },
    ...(kind !== 'token' && {
      [names.told]: told(single, ({ target }, other) => other === target),
      [names.distributionTold]: told(spread, ({ distribution }, other) => distribution!.probabilities[other] > 0),
    }),
  };
}

/** Weight of all choices together. */
export const totalWeight = (choices: readonly Choice[]): number => choices.reduce((sum, { weight }) => sum + weight, 0);

/** Refuses probabilities that do not sum to 1; `where` names the example. */
export function checkProbabilities(probabilities: ArrayLike<number>, where: string, among: string): void {
  let total = 0;
  for (let i = 0; i < probabilities.length; i++) total += probabilities[i] >= 0 ? probabilities[i] : NaN;
  if (!(Math.abs(total - 1) < 1e-3))
    throw new AdaptationError(where, `a distribution over ${probabilities.length} ${among} sums to ${total}, not 1`);
}
