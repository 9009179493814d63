import { checkCount } from '../check-count.js';
import type { NamedKind } from '../items/item-tokens.js';
import { BestList } from './best-list.js';
import type { RankOptions } from './beam-search.js';
import type { AskedModel, CatalogueRanker } from './catalogue-ranker.js';
import { notFinite } from './token-scorer.js';

/** Ranks items by the probability of their tokens among those of all items: one pass over the prompt scores the whole catalogue. */
export const byItemTokens = (items: number): CatalogueRanker => byNamedTokens('item', items);

/** Ranks the labels that a model names by one token each, as `byItemTokens` ranks items: the first one is the answer to a question. */
export const byLabelTokens = (labels: number): CatalogueRanker => byNamedTokens('label', labels);

function byNamedTokens(kind: NamedKind, items: number): CatalogueRanker {
  const probabilities = async (asked: AskedModel, { signal }: Pick<RankOptions, 'signal'>): Promise<Float64Array> => {
    signal?.throwIfAborted();
    const logits = await asked.namedLogits(kind);
    if (logits.length !== items)
      throw new RangeError(`${items} ${kind}s are to be ranked, and the model has tokens for ${logits.length}.`);
    return logSoftmax(logits);
  };
  return {
    way: `${kind}-tokens`,
    items,
    depth: 0,
    async rank(asked, options) {
      const scores = await probabilities(asked, options);
      return { ...bestOf(scores, options), tokens: 0, steps: 0 };
    },
    async score(asked, wanted, options) {
      const scores = await probabilities(asked, options);
      return { scores: Float64Array.from(wanted, (item) => scores[item]), tokens: 0, steps: 0 };
    },
  };
}

/** The best of scored items: those of `items`, or the i-th score is item i's. */
export function bestOf(
  scores: Float64Array,
  { top, exclude = [] }: Pick<RankOptions, 'top' | 'exclude'>,
  items?: Int32Array,
): { items: Int32Array; scores: Float64Array } {
  checkCount('top', top);
  const excluded = new Set(exclude);
  // Without types they may be ids, of which none would be found.
  const id = [...excluded].find((item: unknown) => typeof item !== 'number');
  if (id !== undefined)
    throw new RangeError(`exclude names places in the catalogue by their numbers, and '${String(id)}' is none.`);
  const found = new BestList(Math.min(top, scores.length));
  scores.forEach((score, i) => {
    if (Number.isNaN(score)) throw notFinite();
    const item = items === undefined ? i : items[i];
    if (!excluded.has(item)) found.add(score, item, item);
  });
  const sorted = found.sorted();
  return {
    items: Int32Array.from(sorted, ({ payload }) => payload),
    scores: Float64Array.from(sorted, ({ score }) => score),
  };
}

/** Natural logarithms of the softmax. */
export function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const normalizer = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  return values.map((value) => value - normalizer);
}
