import { AdaptationError } from '../errors.js';
import { checkProbabilities } from './choices.js';
import type { Choice } from './choices.js';
import type { AdaptationExample } from './examples.js';

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
): Choice[] {
  if (items.length > 0 && count === 0)
    throw new AdaptationError(where, 'names items, and the model has no item tokens; make some with withItemTokens');
  return items.map(({ item, after = promptIds.length - 1, weight = 1, probabilities, excluded }) => {
    if (!(Number.isInteger(item) && item >= 0 && item < count))
      throw new AdaptationError(where, `item ${item} is none of the ${count} items that have a token`);
    if (!(Number.isInteger(after) && after >= 0 && after < promptIds.length))
      throw new AdaptationError(where, `an item comes after token ${after} of a prompt of ${promptIds.length}`);
    if (!(weight >= 0)) throw new AdaptationError(where, `an item has the weight ${weight}`);
    if (probabilities !== undefined && probabilities.length !== count)
      throw new AdaptationError(where, `has ${probabilities.length} probabilities for the ${count} items that have a token`);
    if (probabilities !== undefined) checkProbabilities(probabilities, where, 'items');
    const position = after < placeholders.start ? after : after + placeholders.count;
    return { position, target: item, weight, ...(probabilities && { distribution: { probabilities } }), excluded };
  });
}
