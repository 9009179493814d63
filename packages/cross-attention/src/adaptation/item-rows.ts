import type { Feeds } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import type { AdaptationExample } from './examples.js';

/** An item that a row's model should name. */
export interface PlacedItem {
  /** Position in the row whose state it is read from. */
  readonly position: number;
  readonly item: number;
  readonly weight: number;
  readonly probabilities: ArrayLike<number> | undefined;
}

/**
 * The items of an example at their positions in its row.
 *
 * @param placeholders how many tokens the row has besides the prompt's own, and before which of those they stand
 * @param count number of the model's item tokens
 */
export function placedItems(
  { items = [], promptIds }: Pick<AdaptationExample, 'items' | 'promptIds'>,
  placeholders: { readonly start: number; readonly count: number },
  count: number,
  where: string,
): PlacedItem[] {
  if (items.length > 0 && count === 0)
    throw new AdaptationError(where, 'names items, and the model has no item tokens; make some with withItemTokens');
  return items.map(({ item, after = promptIds.length - 1, weight = 1, probabilities }) => {
    if (!(Number.isInteger(item) && item >= 0 && item < count))
      throw new AdaptationError(where, `item ${item} is none of the ${count} items that have a token`);
    if (!(Number.isInteger(after) && after >= 0 && after < promptIds.length))
      throw new AdaptationError(where, `an item comes after token ${after} of a prompt of ${promptIds.length}`);
    if (!(weight >= 0)) throw new AdaptationError(where, `an item has the weight ${weight}`);
    checkProbabilities(probabilities, count, where);
    const position = after < placeholders.start ? after : after + placeholders.count;
    return { position, item, weight, probabilities };
  });
}

function checkProbabilities(probabilities: ArrayLike<number> | undefined, count: number, where: string): void {
  if (probabilities === undefined) return;
  if (probabilities.length !== count)
    throw new AdaptationError(where, `has ${probabilities.length} probabilities for the ${count} items that have a token`);
  let total = 0;
  for (let item = 0; item < count; item++) total += probabilities[item] >= 0 ? probabilities[item] : NaN;
  if (!(Math.abs(total - 1) < 1e-3))
    throw new AdaptationError(where, `a distribution over ${count} items sums to ${total}, not 1`);
}

/**
 * The item inputs of the training graph for some rows, padded to `length`: `item_rows`, `item_targets`, `item_weights` [named], and
 * `item_distribution_rows` [taught] with the weighted `item_distributions` [taught, items].
 */
export function itemFeeds(rows: readonly { readonly items: readonly PlacedItem[] }[], length: number, count: number): Feeds {
  const placed = rows.flatMap(({ items }, row) => items.map((item) => ({ ...item, at: row * length + item.position })));
  const named = placed.filter(({ probabilities }) => probabilities === undefined);
  const taught = placed.filter(({ probabilities }) => probabilities !== undefined);
  // At least one of each, of no weight, so that no input is empty.
  if (named.length === 0) named.push({ at: 0, position: 0, item: 0, weight: 0, probabilities: undefined });
  const places = Math.max(1, taught.length);
  const distributions = new Float32Array(places * count);
  taught.forEach(({ weight, probabilities }, i) => {
    for (let item = 0; item < count; item++) distributions[i * count + item] = weight * probabilities![item];
  });
  const int32 = (values: readonly number[]) =>
    ({ dtype: 'int32', data: Int32Array.from(values), shape: [values.length] }) as const;
  return {
    item_rows: int32(named.map(({ at }) => at)),
    item_targets: int32(named.map(({ item }) => item)),
    item_weights: { dtype: 'float32', data: Float32Array.from(named, ({ weight }) => weight), shape: [named.length] },
    item_distribution_rows: int32(taught.length === 0 ? [0] : taught.map(({ at }) => at)),
    item_distributions: { dtype: 'float32', data: distributions, shape: [places, count] },
  };
}
