import type { Trainer } from '@user-llm/onnx-autograd';
import type { Batch } from './train.js';

/** Examples that are not trained on, as the graph is fed them. */
export interface ValidationBatch {
  readonly batch: Batch;
  /** Of the loss, next to other batches. */
  readonly weight: number;
  /** Where rankings are looked at: of each part, the items that are right, in the order of the rows of `item_logits`. */
  readonly ranked?: readonly (readonly RankedItem[])[];
}

/** An item that is right somewhere. */
export interface RankedItem {
  readonly item: number;
  /** Items that are not asked about, so that they take no place before it. */
  readonly excluded: Iterable<number>;
}

/** How good a model is on validation examples. */
export interface Validated {
  readonly loss: number;
  /** Mean of 1 / log2(1 + rank) of the items that are right: NDCG without a cutoff, of one relevant item. */
  readonly ndcg?: number;
  /** Of an alignment: the share of users and texts that found each other. */
  readonly accuracy?: number;
}

/** Looks at all validation batches with the trainer's weights. */
export async function validated(trainer: Trainer, batches: readonly ValidationBatch[]): Promise<Validated> {
  let loss = 0;
  let weights = 0;
  let gain = 0;
  let asked = 0;
  for (const { batch, weight, ranked } of batches) {
    for (const [i, part] of batch.parts.entries()) {
      const outputs = await trainer.evaluate(part, ranked === undefined ? ['loss'] : ['loss', 'item_logits']);
      loss += ((outputs.loss.data as Float32Array)[0] * weight) / batch.parts.length;
      if (ranked === undefined) continue;
      const [, items] = outputs.item_logits.shape;
      const logits = outputs.item_logits.data as Float32Array;
      ranked[i].forEach((right, row) => {
        gain += gainOf(right, logits.subarray(row * items, (row + 1) * items));
        asked++;
      });
    }
    weights += weight;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return { loss: loss / weights, ...(asked === 0 ? {} : { ndcg: gain / asked }) };
}

/** What a ranking gains by where it has the right item: NDCG without a cutoff. */
export const gainOf = (right: RankedItem, logits: Float32Array): number => 1 / Math.log2(1 + rankOf(right, logits));

/** From 1; behind every item that is scored as high. */
function rankOf({ item, excluded }: RankedItem, logits: Float32Array): number {
  const bar = logits[item];
  let rank = 0;
  for (const logit of logits) if (!(logit < bar)) rank++;
  // A user may have had an item more than once.
  for (const other of new Set(excluded)) if (other !== item && !(logits[other] < bar)) rank--;
  return rank;
}
