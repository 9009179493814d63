import { checkCount } from '../check-count.js';
import { bestOf, logSoftmax } from './by-item-tokens.js';
import type { CatalogueRanker } from './catalogue-ranker.js';

export interface ByRetrievalOptions {
  /**
   * Scores of all items by something quick that knows the user, such as an encoder's item head: logits or log-probabilities, `[items]` in
   * the order of what `ranker` ranks (the titles of a trie, or the items that have tokens). Of an encoder's scores leave the special ids out:
   * `scores.subarray(FIRST_VALUE_ID)` with the constant of `@user-llm/event-tokenizer`. An item that it does not know may have -Infinity,
   * and is retrieved last; where it knows none of what is ranked anew, the model alone decides their order.
   */
  readonly retriever: () => ArrayLike<number> | Promise<ArrayLike<number>>;
  /** How many of the retriever's best are ranked anew. Default 100; never fewer than the ranking's `top`. */
  readonly candidates?: number;
  /** What ranks them anew. */
  readonly ranker: CatalogueRanker;
  /**
   * The retriever's share in the order of its candidates, from 0 (the model alone) to 1 (the retriever alone): log-probabilities are
   * mixed with it. Choose it on validation users. Default 0.
   */
  readonly retrieverShare?: number;
}

/** What is retrieved, where something else says what ranks it anew. */
export type Retrieval = Omit<ByRetrievalOptions, 'ranker'>;

/** The log-probabilities that a model and a retriever give an item, mixed. A share of nothing must not meet the logarithm of zero. */
export function mixedScore(model: number, retrieved: number, retrieverShare: number): number {
  if (retrieverShare === 0) return model;
  if (retrieverShare === 1) return retrieved;
  return (1 - retrieverShare) * model + retrieverShare * retrieved;
}

/**
 * Retrieves candidates, and ranks those anew by a language model, or by a mix of both. Made for one user's request. A ranking rejects with a
 * `RangeError` where the retriever gives another number of scores than `ranker.items`, or one that is NaN or Infinity.
 */
export function byRetrieval({
  retriever,
  candidates = 100,
  ranker,
  retrieverShare = 0,
}: ByRetrievalOptions): CatalogueRanker & { readonly way: 'retrieve' } {
  checkCount('candidates', candidates);
  if (!(retrieverShare >= 0 && retrieverShare <= 1))
    throw new RangeError(`The retriever's share must be from 0 to 1, not ${retrieverShare}.`);
  const retrieved = async (): Promise<Float64Array> => {
    const scores = await retriever();
    if (scores.length !== ranker.items)
      throw new RangeError(`The retriever scores ${scores.length} items, and ${ranker.items} are to be ranked.`);
    const values = Float64Array.from(scores);
    const wrong = values.find((score) => !(score < Infinity));
    if (wrong !== undefined)
      throw new RangeError(
        `The retriever scores an item ${wrong}; give numbers, and -Infinity for an item that it does not know.`,
      );
    return values.some((score) => score > -Infinity) ? logSoftmax(values) : values;
  };
  const score: CatalogueRanker['score'] = async (asked, items, options) => {
    const quick = await retrieved();
    const { scores, tokens, steps } = await ranker.score(asked, items, options);
    return { scores: mixed(scores, items, quick), tokens, steps };
  };
  const mixed = (scores: Float64Array, items: Int32Array, quick: Float64Array) => {
    const share = items.some((item) => quick[item] > -Infinity) ? retrieverShare : 0;
    return scores.map((value, i) => mixedScore(value, quick[items[i]], share));
  };
  return {
    way: 'retrieve',
    items: ranker.items,
    depth: ranker.depth,
    score,
    async rank(asked, options) {
      const quick = await retrieved();
      const top = Math.max(candidates, options.top);
      const { items } = bestOf(quick, { top, exclude: options.exclude });
      if (items.length === 0) return { items, scores: new Float64Array(0), tokens: 0, steps: 0 };
      // What is excluded is by its place in the catalogue, of which a ranker that scores a few items need not know.
      const { signal } = options;
      const { scores, tokens, steps } = await ranker.score(asked, items, signal === undefined ? {} : { signal });
      return { ...bestOf(mixed(scores, items, quick), { top: options.top }, items), tokens, steps };
    },
  };
}
