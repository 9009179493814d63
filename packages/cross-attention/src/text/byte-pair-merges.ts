import { characterOfByte, wordPattern } from './byte-alphabet.js';

/** Token strings in order of their ids (bytes first), and the merges in order of their priority. */
export interface ByteLevelVocabulary {
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

/** A pair of token ids as one number, ordered by the left id and then the right one. */
const pairKey = (left: number, right: number) => left * 65_536 + right;

/**
 * Learns byte-pair merges (Sennrich et al., arXiv 1508.07909) over bytes: again and again the most frequent pair of neighbouring
 * tokens becomes a new token, until there are `size` tokens or no pair occurs `minimumCount` times. Among equally frequent pairs the
 * one of the older tokens is taken, so the result depends on the counts alone and not on the order of the texts.
 *
 * Pair counts are kept up to date word by word, and a heap holds the candidates; a stale heap entry is put right when it comes up.
 */
export function learnMerges(texts: Iterable<string>, size: number, minimumCount: number): ByteLevelVocabulary {
  const tokens = [...characterOfByte];
  const idOfToken = new Map(tokens.map((token, id) => [token, id]));
  const { words, counts: wordCounts } = countWords(texts);

  const pairCounts = new Map<number, number>();
  const wordsOfPair = new Map<number, number[]>();
  const change = (key: number, by: number, word: number) => {
    pairCounts.set(key, (pairCounts.get(key) ?? 0) + by);
    if (by < 0) return;
    const list = wordsOfPair.get(key);
    if (list === undefined) wordsOfPair.set(key, [word]);
    else if (list[list.length - 1] !== word) list.push(word);
  };
  words.forEach((word, index) => {
    for (let i = 1; i < word.length; i++) change(pairKey(word[i - 1], word[i]), wordCounts[index], index);
  });

  const queue = new PairQueue();
  for (const [key, count] of pairCounts) queue.push(key, count);
  const merges: [string, string][] = [];
  const grown = new Set<number>();
  while (tokens.length < size) {
    const top = queue.pop();
    if (top === undefined) break;
    const count = pairCounts.get(top.key) ?? 0;
    if (count !== top.count) {
      if (count > 0) queue.push(top.key, count);
      continue;
    }
    if (count < minimumCount) break;
    const left = Math.floor(top.key / 65_536);
    const right = top.key % 65_536;
    const token = tokens[left] + tokens[right];
    // Two different merges can spell the same token ("ab" + "c", "a" + "bc"); it keeps one id.
    let id = idOfToken.get(token);
    if (id === undefined) {
      id = tokens.push(token) - 1;
      idOfToken.set(token, id);
    }
    merges.push([tokens[left], tokens[right]]);
    for (const index of wordsOfPair.get(top.key) ?? []) {
      const word = words[index];
      const by = wordCounts[index];
      let kept = 0;
      for (let i = 0; i < word.length; i++) {
        if (word[i] !== left || word[i + 1] !== right) {
          word[kept++] = word[i];
          continue;
        }
        // Before: previous, left, right, next. After: previous, id, next.
        if (kept > 0) {
          change(pairKey(word[kept - 1], left), -by, index);
          change(pairKey(word[kept - 1], id), by, index);
          grown.add(pairKey(word[kept - 1], id));
        }
        if (i + 2 < word.length) {
          change(pairKey(right, word[i + 2]), -by, index);
          change(pairKey(id, word[i + 2]), by, index);
          grown.add(pairKey(id, word[i + 2]));
        }
        word[kept++] = id;
        i++;
      }
      word.length = kept;
    }
    pairCounts.delete(top.key);
    wordsOfPair.delete(top.key);
    for (const key of grown) {
      const now = pairCounts.get(key) ?? 0;
      if (now > 0) queue.push(key, now);
    }
    grown.clear();
  }
  return { tokens, merges };
}

/** Every different word of the texts as its bytes, with how often it occurs. */
function countWords(texts: Iterable<string>): { words: number[][]; counts: number[] } {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(wordPattern) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const encoder = new TextEncoder();
  return { words: Array.from(counts.keys(), (word) => Array.from(encoder.encode(word))), counts: [...counts.values()] };
}

/** A binary heap of pairs, the most frequent on top; equal counts by the smaller key. */
class PairQueue {
  readonly #entries: { key: number; count: number }[] = [];

  push(key: number, count: number): void {
    const entries = this.#entries;
    const entry = { key, count };
    let at = entries.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!comesFirst(entry, entries[parent])) break;
      entries[at] = entries[parent];
      at = parent;
    }
    entries[at] = entry;
  }

  pop(): { key: number; count: number } | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= entries.length) break;
      if (child + 1 < entries.length && comesFirst(entries[child + 1], entries[child])) child++;
      if (!comesFirst(entries[child], last)) break;
      entries[at] = entries[child];
      at = child;
    }
    entries[at] = last;
    return top;
  }
}

function comesFirst(a: { key: number; count: number }, b: { key: number; count: number }): boolean {
  return a.count !== b.count ? a.count > b.count : a.key < b.key;
}
