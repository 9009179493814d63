import { childOf, type PrefixTrie } from './prefix-trie.js';

/** What a token should be: ids, and how probable each is. They sum to 1. */
export interface TokenDistribution {
  /** `[n]` */
  readonly ids: Int32Array;
  /** `[n]` */
  readonly probabilities: Float32Array;
}

/**
 * What a distribution over items says about each token of a title (its end token included): how probable each token is that the trie
 * allows there, given the title so far. Undefined where the trie leaves no choice, where no item of positive probability is left, and from
 * where the title leaves the trie. A model that is trained on these learns from one example what it would learn from many drawn titles
 * (knowledge distillation: Hinton et al., arXiv 1503.02531).
 *
 * @param probabilities of each item, `[items]`; they need not sum to 1
 */
export function titleDistributions(
  trie: PrefixTrie,
  title: readonly number[],
  probabilities: ArrayLike<number>,
): (TokenDistribution | undefined)[] {
  if (probabilities.length !== trie.items)
    throw new RangeError(`There are ${probabilities.length} probabilities for the ${trie.items} items of the trie.`);
  let node: number | undefined = 0;
  return title.map((token) => {
    if (node === undefined) return undefined;
    const at: number = node;
    node = childOf(trie, at, token);
    return node === undefined ? undefined : childDistribution(trie, at, probabilities);
  });
}

function childDistribution(trie: PrefixTrie, node: number, probabilities: ArrayLike<number>): TokenDistribution | undefined {
  const first = trie.firstChild[node];
  const count = trie.firstChild[node + 1] - first;
  if (count < 2) return undefined;
  const masses = new Float32Array(count);
  let total = 0;
  for (let child = 0; child < count; child++) {
    let mass = 0;
    for (const item of trie.itemsOf(first + child)) mass += probabilities[item];
    masses[child] = mass;
    total += mass;
  }
  if (!(total > 0)) return undefined;
  return { ids: trie.token.slice(first, first + count), probabilities: masses.map((mass) => mass / total) };
}
