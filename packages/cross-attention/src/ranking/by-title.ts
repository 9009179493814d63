import { beamSearch, exactRanking } from './beam-search.js';
import type { BeamSearchOptions } from './beam-search.js';
import type { CatalogueRanker } from './catalogue-ranker.js';
import { PrefixTrie, titleOf } from './prefix-trie.js';

export interface ByTitleOptions extends Pick<BeamSearchOptions, 'width' | 'among'> {
  /** Every title scored as far as needed: the true order, at many times the cost. */
  readonly exact?: boolean;
}

const amongWhat: readonly string[] = ['catalogue', 'vocabulary'];

/** Ranks items by the probability of their titles, token by token: `beamSearch`, or `exactRanking`. Throws a `RangeError` for another `among`. */
export function byTitle(trie: PrefixTrie, { width, among = 'catalogue', exact = false }: ByTitleOptions = {}): CatalogueRanker {
  if (!amongWhat.includes(among)) throw new RangeError(`among must be 'catalogue' or 'vocabulary', not '${among}'.`);
  return {
    way: 'title',
    items: trie.items,
    depth: trie.depth,
    async rank(asked, options) {
      const scorer = await asked.texts();
      if (exact) return exactRanking(trie, scorer, { ...options, among });
      return beamSearch(trie, scorer, { ...options, among, ...(width === undefined ? {} : { width }) });
    },
    async score(asked, items, { signal }) {
      const endToken = trie.token[trie.leafOfItem[0]];
      const few = PrefixTrie.build(
        Array.from(items, (item) => titleOf(trie, item)),
        endToken,
      );
      // Among all texts: a title's probability does not depend on what else was retrieved, but for roundings of products in blocks.
      const ranked = await exactRanking(few, await asked.texts(), {
        among: 'vocabulary',
        top: items.length,
        ...(signal === undefined ? {} : { signal }),
      });
      const scores = new Float64Array(items.length);
      ranked.items.forEach((place, i) => (scores[place] = ranked.scores[i]));
      return { scores, tokens: ranked.tokens, steps: ranked.steps };
    },
  };
}
