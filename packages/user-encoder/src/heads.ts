import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import { linearCrossEntropy, weightedMean, zeros, type GraphBuilder, type Tensor } from '@user-llm/onnx-autograd';
import { fieldTable } from './fusion.js';
import type { InputField } from './input-fields.js';
import type { ItemHead } from './objectives/objective.js';
import { dense } from './transformer.js';

/** A field that has a head. */
export type PredictedField = Exclude<InputField, { kind: 'text' }>;

/** Input of a field's target, without prefix. */
export const targetName = (field: PredictedField): string => (field.kind === 'time' ? `${field.name}.gap` : field.name);

/**
 * What a field's head compares: the rows' queries and the table of the field's embedding, which the head shares.
 *
 * @param heads builder of the heads' own parameters
 * @param encoder builder of the embedding tables
 * @param states [N, D]
 * @returns query [N, width], table [V, width]
 */
export function fieldHead(
  heads: GraphBuilder,
  encoder: GraphBuilder,
  field: PredictedField,
  states: Tensor,
): { query: Tensor; table: Tensor } {
  const table = fieldTable(encoder, field, field.kind === 'time' ? 'gap' : undefined);
  const width = Number(table.shape[1]);
  // The item's table is as wide as the states and needs no projection.
  return { table, query: width === states.shape[1] ? states : dense(heads, field.name, states, width) };
}

/**
 * Mean cross-entropy of a field over the rows that have a target (a value, not a special id).
 *
 * @param target ids [N], of a bag [N, places]
 * @returns scalar
 */
export function fieldLoss(field: PredictedField, { query, table }: { query: Tensor; table: Tensor }, target: Tensor): Tensor {
  if (field.kind !== 'categories')
    return weightedMean(linearCrossEntropy(query, table, target), target.greaterOrEqual(FIRST_VALUE_ID).cast('float32'));
  // The target is a distribution: every category of the bag is equally right.
  const present = target.greaterOrEqual(FIRST_VALUE_ID).cast('float32');
  const share = present.div(present.sum(1, true).maximum(1));
  const logProbabilities = query.matmul(table, { transposeB: true }).logSoftmax(); // [N, V]
  const losses = logProbabilities.gatherElements(target).mul(share).sum(1).neg(); // [N]
  return weightedMean(losses, share.sum(1));
}

/** Vectors of all items as the label tower makes them; derived from the other weights, never learned. */
export const labelTable = 'labels.table';

/** x over its length, along the last axis. */
export const normalised = (x: Tensor): Tensor => x.div(x.square().sum(-1, true).add(1e-12).sqrt());

/** Scores of every item id as the next event's item: [B, D] to [B, V]. */
export function itemScores(builder: GraphBuilder, item: InputField, last: Tensor, head: Exclude<ItemHead, 'none'>): Tensor {
  const { size, width } = item as Extract<InputField, { kind: 'categorical' }>;
  if (head === 'item') return last.matmul(fieldTable(builder.scope('encoder'), item as PredictedField), { transposeB: true });
  const labels = builder.scope('heads').parameter(labelTable, [size, width], zeros());
  return normalised(last).matmul(labels, { transposeB: true });
}
