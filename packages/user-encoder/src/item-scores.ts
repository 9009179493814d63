import type { EventColumns } from '@user-llm/event-tokenizer';
import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer/web';
import type { EncoderConfig } from './config.js';
import type { LabelTower } from './label-tower.js';
import type { ItemHead } from './objectives/objective.js';
import type { Span } from './span.js';
import type { TrainingRecord } from './training-record.js';

/** The item ids of all events. */
export function itemIds(config: EncoderConfig, events: EventColumns): Int32Array {
  const column = events.fields[config.fields[0].name];
  if (column?.kind !== 'categorical') throw new Error('internal: the item field is not a categorical column');
  return column.ids;
}

/** What scores items: the item head before any pretraining, then what the objectives trained. */
export const itemHeadOf = (training: Pick<TrainingRecord, 'itemHead'> | null): ItemHead => training?.itemHead ?? 'item';

/** Whether a record says that the item head knows nothing of items that a user has taken already. */
export const leavesOutTaken = (training: Pick<TrainingRecord, 'repeats'> | null): boolean => training?.repeats === 'never';

/**
 * What an item head says of the next item, from its raw scores [V], in place: the special ids -Infinity, and where it was trained for users
 * who take nothing again, the lowest score of all for what the user has taken. That is a number, so that scores can be averaged,
 * blended and written as JSON.
 *
 * @param taken ids of items
 */
export function saidOfNext(
  scores: Float32Array,
  training: Pick<TrainingRecord, 'repeats'> | null,
  taken: Iterable<number>,
): Float32Array {
  if (leavesOutTaken(training)) lower(scores, taken);
  return scores.fill(-Infinity, 0, FIRST_VALUE_ID);
}

/** The items of a history. */
export const takenIn = (config: EncoderConfig, events: EventColumns, { start, end }: Span): Int32Array =>
  itemIds(config, events).subarray(start, end);

/**
 * What a label tower says of items: the products of a user's direction [D] with their vectors [N, D]. Where it was trained for users who take
 * nothing again, what the user has taken has the lowest score that there can be, so that it does not hang on which others are asked for.
 *
 * @param ids of the items, [N]
 * @param taken ids of items
 */
export function scoresByFields(
  direction: Float32Array,
  { vectors, ids }: { vectors: Float32Array; ids: Int32Array },
  tower: LabelTower,
  taken: Int32Array,
): Float32Array {
  const width = direction.length;
  const out = new Set(leavesOutTaken(tower) ? taken.filter((id) => id >= FIRST_VALUE_ID) : []);
  return Float32Array.from(ids, (id, item) =>
    out.has(id) ? -1 / tower.temperature : direction.reduce((sum, value, i) => sum + value * vectors[item * width + i], 0),
  );
}

function lower(scores: Float32Array, ids: Iterable<number>): void {
  let lowest = Infinity;
  for (let id = FIRST_VALUE_ID; id < scores.length; id++) lowest = Math.min(lowest, scores[id]);
  for (const id of ids) if (id >= FIRST_VALUE_ID) scores[id] = lowest;
}
