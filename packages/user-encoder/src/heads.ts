import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import { linearCrossEntropy, weightedMean, type GraphBuilder, type Tensor } from '@user-llm/onnx-autograd';
import { fieldTable, type EventInputs } from './fusion.js';
import type { InputField } from './input-fields.js';
import { dense } from './transformer.js';

type PredictedField = Exclude<InputField, { kind: 'text' }>;

/** Input of a field's target, without prefix. */
export const targetName = (field: PredictedField): string => (field.kind === 'time' ? `${field.name}.gap` : field.name);

/**
 * Mean cross-entropy of a field of the next event, over the positions that have a target (a value, not a special id).
 *
 * @param heads builder of the heads' own parameters
 * @param encoder builder of the embedding tables, which the heads share
 * @param states [U, T, D]
 * @returns scalar
 */
export function fieldLoss(
  heads: GraphBuilder,
  encoder: GraphBuilder,
  field: PredictedField,
  states: Tensor,
  targets: EventInputs,
): Tensor {
  const flat = states.reshape([-1, Number(states.shape[2])]); // [N, D]
  const [rows] = flat.shape;
  const table = fieldTable(encoder, field, field.kind === 'time' ? 'gap' : undefined); // [V, width]
  // The item's table is as wide as the states and needs no projection.
  const query = table.shape[1] === flat.shape[1] ? flat : dense(heads, field.name, flat, Number(table.shape[1]));
  const target = targets.get(targetName(field))!;
  if (field.kind !== 'categories') {
    const ids = target.reshape([rows]);
    return weightedMean(linearCrossEntropy(query, table, ids), ids.greaterOrEqual(FIRST_VALUE_ID).cast('float32'));
  }
  // The target is a distribution: every category of the bag is equally right.
  const ids = target.reshape([rows, target.shape[2]]); // [N, bag]
  const present = ids.greaterOrEqual(FIRST_VALUE_ID).cast('float32');
  const share = present.div(present.sum(1, true).maximum(1));
  const logProbabilities = query.matmul(table, { transposeB: true }).logSoftmax(); // [N, V]
  const losses = logProbabilities.gatherElements(ids).mul(share).sum(1).neg(); // [N]
  return weightedMean(losses, share.sum(1));
}

/** Scores of every item id as the next event's item: [B, D] to [B, V]. */
export const itemScores = (encoder: GraphBuilder, item: InputField, last: Tensor): Tensor =>
  last.matmul(fieldTable(encoder, item as PredictedField), { transposeB: true });
