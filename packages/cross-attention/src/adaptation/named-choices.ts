import { AdaptationError } from '../errors.js';
import { makerOf, namedKinds } from '../items/item-tokens.js';
import type { NamedKind } from '../items/item-tokens.js';
import { checkProbabilities } from './choices.js';
import type { Choice } from './choices.js';
import type { AdaptationExample, NamedAnswer } from './examples.js';

/** For each kind of what is named by one token, something. */
export type OfKinds<T> = Readonly<Record<NamedKind, T>>;

/** Makes something for each kind. */
export const ofKinds = <T>(make: (kind: NamedKind) => T): OfKinds<T> =>
  Object.fromEntries(namedKinds.map((kind) => [kind, make(kind)])) as OfKinds<T>;

/** The answers of an example by their tokens' places. */
const answersOf = ({
  items = [],
  labels = [],
}: Pick<AdaptationExample, 'items' | 'labels'>): OfKinds<(NamedAnswer & { target: number })[]> => ({
  item: items.map(({ item, ...answer }) => ({ ...answer, target: item })),
  label: labels.map(({ label, ...answer }) => ({ ...answer, target: label })),
});

/**
 * The items and labels of an example at their positions in its row.
 *
 * @param placeholders how many tokens the row has besides the prompt's own, and before which of those they stand
 * @param counts numbers of the model's item and label tokens
 */
export function placedChoices(
  example: Pick<AdaptationExample, 'items' | 'labels' | 'promptIds'>,
  placeholders: { readonly start: number; readonly count: number },
  counts: OfKinds<number>,
  where: string,
): OfKinds<readonly Choice[]> {
  const { promptIds } = example;
  const answers = answersOf(example);
  return ofKinds((kind) => {
    const count = counts[kind];
    if (answers[kind].length > 0 && count === 0)
      throw new AdaptationError(where, `names ${kind}s, and the model has no ${kind} tokens; make some with ${makerOf[kind]}`);
    return answers[kind].map(({ target, after = promptIds.length - 1, weight = 1, probabilities, excluded }) => {
      if (!(Number.isInteger(target) && target >= 0 && target < count))
        throw new AdaptationError(where, `${kind} ${target} is none of the ${count} ${kind}s that have a token`);
      if (!(Number.isInteger(after) && after >= 0 && after < promptIds.length))
        throw new AdaptationError(where, `its ${kind} comes after token ${after} of a prompt of ${promptIds.length}`);
      if (!(weight >= 0)) throw new AdaptationError(where, `its ${kind} has the weight ${weight}`);
      if (probabilities !== undefined && probabilities.length !== count)
        throw new AdaptationError(where, `has ${probabilities.length} probabilities for the ${count} ${kind}s that have a token`);
      if (probabilities !== undefined) checkProbabilities(probabilities, where, `${kind}s`);
      const others = excluded && [...excluded];
      for (const other of others ?? [])
        if (!(Number.isInteger(other) && other >= 0 && other < count))
          throw new AdaptationError(where, `excludes ${kind} ${other}, which is none of the ${count} ${kind}s that have a token`);
      const position = after < placeholders.start ? after : after + placeholders.count;
      return { position, target, weight, ...(probabilities && { distribution: { probabilities } }), excluded: others };
    });
  });
}
