import { sizeOf } from '../dim.js';
import { ShapeError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { fusedCrossEntropy, fuses, type FusedCrossEntropy } from './fused-cross-entropy.js';
import { scatterAddRows } from './indexing.js';
import { matmul } from './matmul.js';

/**
 * Below this a probability is not told from zero; the loss of one target is at most 87. A normal number: sessions take anything
 * smaller for zero, whose logarithm is not finite.
 */
const smallest = 1.2e-38;

/**
 * Per-target cross-entropy of a linear classifier, -log softmax(x table^T + bias)[target], without a pass over the logits beyond
 * the softmax itself: both gradients are products with the probabilities minus a row gather or scatter.
 *
 * @param x [N, D]
 * @param table [V, D], one row per class (an embedding table may be tied)
 * @param targets [N] int32; a row to leave out gets any valid target and a zero weight in what follows
 * @param bias [V]
 * @returns losses [N]
 */
export function linearCrossEntropy(x: Tensor, table: Tensor, targets: Tensor, bias?: Tensor): Tensor {
  if (x.rank !== 2 || table.rank !== 2 || targets.rank !== 1 || x.shape[1] !== table.shape[1] || x.shape[0] !== targets.shape[0])
    throw new ShapeError('linearCrossEntropy', [x, table, targets], 'give x [N, D], a table [V, D] and targets [N]');
  const [rows] = x.shape;
  const product = matmul(x, table, { transposeB: true });
  const logits = bias ? product.add(bias) : product;
  const probabilities = logits.softmax();
  const perRow = pick(probabilities, targets).maximum(smallest).log().neg();
  const source: Source = { x, table, targets, made: new Map() };
  const [losses] = x.graph.custom(bias ? [x, table, bias] : [x, table], [perRow], (_, [g], [needX, needTable, needBias]) => {
    // d loss_i / d logits_i = g_i (p_i - onehot_i); the one-hot part is a gather (for x) and a scatter (for the table).
    const weight = g!.reshape([rows, 1]);
    const weighted = x.mul(weight);
    const made = source.made.get(g!);
    const expected = (): Tensor => made?.expected ?? matmul(probabilities, table);
    const transposed = (): Tensor => made?.transposed ?? matmul(probabilities, weighted, { transposeA: true });
    const gradX = needX ? expected().sub(table.gather(targets)).mul(weight) : null;
    const gradTable = needTable
      ? { into: (accumulated: Tensor | null) => scatterAddRows(addTo(accumulated, transposed()), targets, weighted.neg()) }
      : null;
    const gradBias =
      needBias && bias
        ? scatterAddRows(matmul(weight, probabilities, { transposeA: true }).reshape(bias.shape), targets, g!.neg())
        : null;
    return [gradX, gradTable, gradBias];
  });
  if (!bias) sources.set(losses, source);
  return losses;
}

/** What a vector of losses came from, and the products with its probabilities that were made on the way to their mean. */
interface Source {
  readonly x: Tensor;
  readonly table: Tensor;
  readonly targets: Tensor;
  /** By the gradient of the losses that they are for. */
  readonly made: Map<Tensor, Pick<FusedCrossEntropy, 'expected' | 'transposed'>>;
}

/** Those of losses whose mean can be computed with its gradients in one go. */
const sources = new WeakMap<Tensor, Source>();

const addTo = (accumulated: Tensor | null, value: Tensor): Tensor => (accumulated ? accumulated.add(value) : value);

/** values[i, targets[i]] for [N, V] values: [N]. */
function pick(values: Tensor, targets: Tensor): Tensor {
  const [rows] = values.shape;
  return values.gatherElements(targets.reshape([rows, 1])).reshape([rows]);
}

/**
 * Per-row cross-entropy of logits, -log softmax(logits)[target].
 *
 * @param logits [N, V]
 * @param targets [N] int32
 * @returns losses [N]
 */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  if (logits.rank !== 2 || targets.rank !== 1 || logits.shape[0] !== targets.shape[0])
    throw new ShapeError('crossEntropy', [logits, targets], 'give logits [N, V] and targets [N]');
  const [rows] = logits.shape;
  const probabilities = logits.softmax();
  const losses = pick(probabilities, targets).maximum(smallest).log().neg();
  return logits.graph.custom([logits], [losses], (_, [g]) => {
    const weight = g!.reshape([rows, 1]);
    const [gradient] = logits.graph.operator(
      'ScatterElements',
      [probabilities.mul(weight), targets.reshape([rows, 1]), weight.neg()],
      {
        attributes: { axis: 1, reduction: 'add' },
        outputs: [{ dtype: logits.dtype, shape: logits.shape }],
      },
    );
    return [gradient];
  })[0];
}

/** Mean of values [N] under weights [N] (0 leaves a row out); 0 when every weight is 0. */
export function weightedMean(values: Tensor, weights: Tensor): Tensor {
  if (sizeOf(values.shape) !== sizeOf(weights.shape))
    throw new ShapeError('weightedMean', [values, weights], 'one weight per value');
  const total = weights.sum().maximum(1e-12);
  const each = weights.reshape(values.shape);
  const source = sources.get(values);
  if (!source || !fuses(values.graph)) return values.mul(each).sum().div(total);

  // The gradient of every loss is its weight, known before the losses: nothing of size [N, V] has to wait for the backward pass.
  const { x, table, targets, made } = source;
  const share = each.div(total);
  const weighted = x.mul(share.reshape([x.shape[0], 1]));
  const { picked, expected, transposed } = fusedCrossEntropy(x, table, targets, weighted);
  const losses = picked.reshape(values.shape).maximum(smallest).log().neg();
  const mean = losses.mul(share).sum();
  return x.graph.custom([values, weights], [mean], (_, [g], [needValues, needWeights]) => {
    const upstream = (gradient: Tensor): Tensor => (isOne(g!) ? gradient : gradient.mul(g!));
    const gradValues = needValues ? upstream(share) : null;
    // Where nothing else reads the losses, theirs is this gradient, and what it needs of the probabilities is there already.
    if (gradValues) made.set(gradValues, { expected, transposed: upstream(transposed) });
    return [gradValues, needWeights ? upstream(losses.sub(mean).div(total).reshape(weights.shape)) : null];
  })[0];
}

/** The gradient of the loss with respect to itself. */
const isOne = (tensor: Tensor): boolean =>
  tensor.producer?.payload?.kind === 'constant' && tensor.rank === 0 && tensor.producer.payload.data[0] === 1;
