import { childOf, type PrefixTrie } from './prefix-trie.js';

/**
 * Weights for the tokens of a title (its end token included): 1 where the trie leaves a choice, `certain` where only one token can follow.
 * Trained so, a model spends itself on what tells titles apart. Titles that are not in the trie weigh 1 throughout from where they leave it.
 */
export function choiceWeights(trie: PrefixTrie, title: readonly number[], certain: number): number[] {
  let node: number | undefined = 0;
  return title.map((token) => {
    if (node === undefined) return 1;
    const choices: number = trie.firstChild[node + 1] - trie.firstChild[node];
    node = childOf(trie, node, token);
    return choices > 1 || node === undefined ? 1 : certain;
  });
}
