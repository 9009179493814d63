import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import {
  concat,
  crossEntropy,
  linearCrossEntropy,
  weightedMean,
  where,
  type GraphBuilder,
  type HostTensor,
  type Random,
  type Tensor,
} from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { itemIds } from '../item-scores.js';
import { checkCalled, checkNames } from '../option-names.js';
import { drawDistinct, drawWeighted, WeightedIds } from './negatives.js';
import type { ObjectiveRun } from './objective.js';
import { candidatePlaces, takenBefore, takenCandidates, type TakenItems, type TakenPlaces } from './taken-items.js';

/** How the item that comes is told from the others. */
export type ItemLoss = FullSoftmax | SampledSoftmax | CalibratedBinary;

export interface FullSoftmax {
  readonly kind: 'full';
  readonly smoothing: number;
}
export interface SampledSoftmax {
  readonly kind: 'sampled';
  readonly negatives: number;
  readonly draw: 'uniform' | 'popularity';
  readonly power: number;
}
export interface CalibratedBinary {
  readonly kind: 'gbce';
  readonly negatives: number;
  readonly t: number;
}

/** Cross-entropy over all items. `smoothing`, from 0 (default) to below 1, is the share of the target that is spread evenly over all items. */
export function fullSoftmax(options: { smoothing?: number } = {}): FullSoftmax {
  checkNames(options, ['smoothing'], 'fullSoftmax');
  const { smoothing = 0 } = options;
  if (!(smoothing >= 0 && smoothing < 1)) throw new EncoderOptionError('smoothing', `${smoothing} is outside [0, 1)`);
  return { kind: 'full', smoothing };
}

/**
 * Cross-entropy over the right item and so many others (default 1,024) that the whole batch shares, for catalogues too large for all.
 * What an other stands for is corrected: its score has the logarithm of how often it is expected among those drawn taken off, so that
 * the sum over them estimates the sum over all items without bias (Bengio and Senécal 2008). `uniform` (default) draws them alike and
 * never twice: as many as there are items is the full softmax over the items. `popularity` draws by (events of the item + 1)^power,
 * 0.75 by default.
 */
export function sampledSoftmax(
  options: { negatives?: number; draw?: 'uniform' | 'popularity'; power?: number } = {},
): SampledSoftmax {
  checkNames(options, ['negatives', 'draw', 'power'], 'sampledSoftmax');
  const { negatives = 1024, draw = 'uniform', power = 0.75 } = options;
  checkNegatives(negatives);
  if (draw !== 'uniform' && draw !== 'popularity')
    throw new EncoderOptionError('draw', `'${String(draw)}' is neither 'uniform' nor 'popularity'`);
  if (!Number.isFinite(power)) throw new EncoderOptionError('power', `${power} is not a number`);
  return { kind: 'sampled', negatives, draw, power };
}

/**
 * gSASRec's generalised binary cross-entropy (Petrov and Macdonald 2023, section 5) over the right item and so many others
 * (default 256), drawn alike and never twice, shared by the batch. `t` from 0 to 1 (default 0.75) undoes the overconfidence that
 * sampling brings: 0 is plain binary cross-entropy, 1 calibrates fully.
 */
export function gbce(options: { negatives?: number; t?: number } = {}): CalibratedBinary {
  checkNames(options, ['negatives', 't'], 'gbce');
  const { negatives = 256, t = 0.75 } = options;
  checkNegatives(negatives);
  if (!(t >= 0 && t <= 1)) throw new EncoderOptionError('t', `${t} is outside [0, 1]`);
  return { kind: 'gbce', negatives, t };
}

function checkNegatives(negatives: number): void {
  if (!Number.isInteger(negatives) || negatives < 1)
    throw new EncoderOptionError('negatives', `${negatives} is not a positive whole number`);
}

/** Refuses what is no loss of items. @throws EncoderOptionError */
export function checkItemLoss(loss: ItemLoss): void {
  checkCalled('loss', loss);
  if (!['full', 'sampled', 'gbce'].includes(loss?.kind))
    throw new EncoderOptionError('loss', `'${String(loss)}' is none; give fullSoftmax(), sampledSoftmax() or gbce()`);
}

/** Vectors of items. */
export interface ItemVectors {
  /** Of all, [V, D]. */
  all(): Tensor;
  /** By ids that are an input, [...ids, D]. */
  of(ids: Tensor): Tensor;
}

/** An item loss in a graph. */
export interface BoundItemLoss {
  /**
   * Mean loss of the rows of query [N, D] that have a target: an input of N ids, [U, T] where there is `taken`. Of what was taken before a
   * target nothing is told apart from it.
   */
  build(builder: GraphBuilder, query: Tensor, items: ItemVectors, target: Tensor, taken?: TakenItems): Tensor;
  /** @param taken places in the lists of {@link TakenItems}, where the graph has them */
  feeds(random: Random, taken?: TakenPlaces): Record<string, HostTensor>;
}

const negativesInput = 'negatives.ids';
const correctionInput = 'negatives.correction';
const placesInput = 'negatives.places';

export function bindItemLoss(loss: ItemLoss, run: ObjectiveRun): BoundItemLoss {
  const [item] = run.config.fields;
  const items = (item as { size: number }).size - FIRST_VALUE_ID;
  switch (loss.kind) {
    case 'full':
      if (run.itemTable === 'rows')
        throw new EncoderOptionError(
          'itemTable',
          "the full softmax reads every row of the item's table; choose sampledSoftmax or gbce, or leave the option out",
        );
      return {
        feeds: () => ({}),
        build: (_, query, vectors, target, taken) =>
          taken
            ? untakenSoftmax(query, vectors, target, taken, loss.smoothing)
            : smoothedSoftmax(query, vectors.all(), flat(target), loss.smoothing),
      };
    case 'sampled': {
      const { draw, power } = loss;
      const count = draw === 'uniform' ? Math.min(loss.negatives, items) : loss.negatives;
      const popularity = draw === 'popularity' ? popularityOf(run, items, power) : null;
      return {
        feeds(random, taken) {
          const ids = popularity ? drawWeighted(popularity, count, random) : drawDistinct(items, count, random);
          const expected = (id: number): number => (popularity ? count * popularity.share(id) : count / items);
          return {
            [negativesInput]: { dtype: 'int32', shape: [count], data: itemsOf(ids) },
            [correctionInput]: {
              dtype: 'float32',
              shape: [count],
              data: Float32Array.from(ids, (id) => -Math.log(expected(id))),
            },
            ...(taken && { [placesInput]: candidatePlaces(itemsOf(ids), taken) }),
          };
        },
        build(builder, query, vectors, target, taken) {
          const negatives = builder.input(negativesInput, [count], 'int32');
          const correction = builder.input(correctionInput, [count]);
          return candidateSoftmax(
            query,
            vectors.of(target).reshape(query.shape),
            { vectors: vectors.of(negatives), ids: negatives, correction },
            flat(target),
            taken && takenCandidates(builder, placesInput, count, taken),
          );
        },
      };
    }
    case 'gbce': {
      // One item cannot stand against itself.
      const count = Math.min(loss.negatives, items);
      const beta = calibration(Math.min(loss.negatives, items - 1), items, loss.t);
      return {
        feeds(random, taken) {
          const ids = drawDistinct(items, count, random);
          return {
            [negativesInput]: { dtype: 'int32', shape: [count], data: itemsOf(ids) },
            ...(taken && { [placesInput]: candidatePlaces(itemsOf(ids), taken) }),
          };
        },
        build(builder, query, vectors, target, taken) {
          const negatives = builder.input(negativesInput, [count], 'int32');
          const positive = vectors.of(target).reshape(query.shape);
          const others = { vectors: vectors.of(negatives), ids: negatives };
          const mask = taken && takenCandidates(builder, placesInput, count, taken);
          return calibratedBinary(query, positive, others, flat(target), beta, mask);
        },
      };
    }
    default:
      throw new Error(`internal: no item loss ${(loss satisfies never as ItemLoss).kind}`);
  }
}

/** beta = alpha (t (1 - 1/alpha) + 1/alpha) with alpha the share of the other items that is drawn (gSASRec, section 5), 0 where there is none. */
export function calibration(negatives: number, items: number, t: number): number {
  const alpha = negatives / Math.max(1, items - 1);
  return t * (alpha - 1) + 1;
}

const flat = (ids: Tensor): Tensor => ids.reshape([-1]);

/** Ids of items that were drawn without the special ones. */
const itemsOf = (drawn: Int32Array): Int32Array => drawn.map((id) => id + FIRST_VALUE_ID);

const known = (target: Tensor): Tensor => target.greaterOrEqual(FIRST_VALUE_ID).cast('float32');

/** Mean of (1 - s) -log p[target] + s mean over the items of -log p, p = softmax(query table^T). */
export function smoothedSoftmax(query: Tensor, table: Tensor, target: Tensor, smoothing: number): Tensor {
  const plain = weightedMean(linearCrossEntropy(query, table, target), known(target));
  if (smoothing === 0) return plain;
  // What smoothing adds to the cross-entropy is s (score of the target - mean score of the items): no pass over the logits.
  const mean = table.slice(0, FIRST_VALUE_ID, table.shape[0]).mean(0, true); // [1, D]
  const margin = query.mul(table.gather(target).sub(mean)).sum(1); // [N]
  return plain.add(weightedMean(margin, known(target)).mul(smoothing));
}

/**
 * The same among the items that were not taken: the softmax over all, with the share of those that were taken out of its denominator.
 * That share comes from the few scores of the taken items, [U, T, S], so that the [N, V] of all are passed over no more often.
 *
 * @param target ids [U, T]
 */
export function untakenSoftmax(
  query: Tensor,
  vectors: ItemVectors,
  target: Tensor,
  taken: TakenItems,
  smoothing: number,
): Tensor {
  const table = vectors.all();
  const width = Number(query.shape[1]);
  const ids = flat(target);
  const right = query.mul(table.gather(ids)).sum(1); // [N]
  const losses = linearCrossEntropy(query, table, ids); // [N]
  const perWindow = [...target.shape, width];
  const scores = query.reshape(perWindow).matmul(vectors.of(taken.ids), { transposeB: true }); // [U, T, S]
  const counts = takenBefore(taken, target);
  const all = losses.add(right).reshape([...target.shape, 1]); // logarithm of the denominator
  const share = where(counts, scores.sub(all), query.graph.constant(excluded)).exp().sum(2); // [U, T]
  // Where next to nothing is left, the bound has no gradient, and what was taken is pushed down like any other item.
  const left = flat(share.minimum(mostTaken).neg().add(1).log()); // [N]
  const plain = weightedMean(losses.add(left), known(ids));
  if (smoothing === 0) return plain;
  const size = Number(table.shape[0]);
  const items = query.mul(table.slice(0, FIRST_VALUE_ID, size).sum(0, true)).sum(1); // [N]
  const untaken = counts
    .cast('float32')
    .sum(2)
    .neg()
    .add(size - FIRST_VALUE_ID); // [U, T]
  const ofTaken = where(counts, scores, query.graph.constant(0)).sum(2); // [U, T]
  const mean = items.sub(flat(ofTaken)).div(flat(untaken));
  return plain.add(weightedMean(right.sub(mean), known(ids)).mul(smoothing));
}

/** The most of a softmax that the taken items may hold and be taken out of it: what is left is then known to 1e-4 in float32. */
const mostTaken = 0.999;

/** Others that rows are told from: vectors [C, D], ids int32 [C], and what is added to their scores [C]. */
export interface Candidates {
  readonly vectors: Tensor;
  readonly ids: Tensor;
  readonly correction: Tensor;
}

/**
 * Mean of -log (e^{s+} / (e^{s+} + sum over the others but the row's own target of e^{s + correction})) over rows with a target.
 *
 * @param query [N, D]
 * @param positive vectors of the targets [N, D]
 * @param target ids [N]
 * @param taken [N, C] which others count for nothing beside the target
 */
export function candidateSoftmax(query: Tensor, positive: Tensor, others: Candidates, target: Tensor, taken?: Tensor): Tensor {
  const builder = query.graph;
  const right = query.mul(positive).sum(1, true); // [N, 1]
  const scores = query.matmul(others.vectors, { transposeB: true }).add(others.correction); // [N, C]
  const logits = concat([right, where(outOf(target, others.ids, taken), builder.constant(excluded), scores)], 1);
  return weightedMean(crossEntropy(logits, builder.filled([query.shape[0]]).cast('int32')), known(target));
}

/** Mean of (beta softplus(-s+) + sum over the others but the target of softplus(s)) / (others + 1) over rows with a target. */
export function calibratedBinary(
  query: Tensor,
  positive: Tensor,
  others: Omit<Candidates, 'correction'>,
  target: Tensor,
  beta: number,
  taken?: Tensor,
): Tensor {
  const count = Number(others.ids.shape[0]);
  const right = query.mul(positive).sum(1); // [N]
  const scores = query.matmul(others.vectors, { transposeB: true }); // [N, C]
  const wrong = scores
    .softplus()
    .mul(outOf(target, others.ids, taken).not().cast('float32'))
    .sum(1);
  const losses = right
    .neg()
    .softplus()
    .mul(beta)
    .add(wrong)
    .mul(1 / (count + 1));
  return weightedMean(losses, known(target));
}

/** A score that is out of the running. */
export const excluded = -1e9;

/** [N, C] whether candidate c is the target of row n. */
const isTarget = (target: Tensor, ids: Tensor): Tensor =>
  target.reshape([target.shape[0], 1]).equal(ids.reshape([1, ids.shape[0]]));

/** [N, C] which candidates a row is not told from. */
const outOf = (target: Tensor, ids: Tensor, taken: Tensor | undefined): Tensor =>
  taken ? isTarget(target, ids).or(taken) : isTarget(target, ids);

function popularityOf(run: ObjectiveRun, items: number, power: number): WeightedIds {
  const counts = itemCounts(run, items);
  return new WeightedIds(Float64Array.from(counts, (count) => (count + 1) ** power));
}

/** Events of every item, without the special ids. */
export function itemCounts({ config, events, spans }: ObjectiveRun, items: number): Float64Array {
  const ids = itemIds(config, events);
  const counts = new Float64Array(items);
  for (const { start, end } of spans)
    for (let event = start; event < end; event++) if (ids[event] >= FIRST_VALUE_ID) counts[ids[event] - FIRST_VALUE_ID]++;
  return counts;
}
