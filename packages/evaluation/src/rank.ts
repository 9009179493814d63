/** A ranking that does not hold the true item. */
export const MISS = -1;

/** 0-based ranks of the true item, {@link MISS} where the ranking cannot hold it. */
export interface Ranks {
  readonly filtered: number;
  readonly unfiltered: number;
}

/**
 * Rank of `target` by its score: items scored higher + floor((items tied - 1) / 2), 0-based, the target among the tied. A score that
 * is the same for everybody thus gives the middle of the ranking, not the top.
 *
 * @param scores [V]
 * @param history items that the filtered ranking leaves out
 * @returns undefined when a score is NaN
 */
export function denseRanks(scores: Float32Array | Float64Array, target: number, history: ReadonlySet<number>): Ranks | undefined {
  const own = scores[target];
  let higher = 0;
  let tied = 0;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i];
    if (score > own) higher++;
    else if (score === own) tied++;
    else if (score !== score) return undefined;
  }
  const unfiltered = higher + Math.floor((tied - 1) / 2);
  if (history.has(target)) return { filtered: MISS, unfiltered };
  for (const item of history) {
    if (scores[item] > own) higher--;
    else if (scores[item] === own) tied--;
  }
  return { filtered: higher + Math.floor((tied - 1) / 2), unfiltered };
}

/**
 * Rank of `target` in a list: its place among the items that are not excluded, at most `depth` of them. The list's own order breaks ties.
 *
 * @param items candidate indices, best first
 */
export function listRank(items: readonly number[], target: number, exclude: ReadonlySet<number>, depth: number): number {
  const seen = new Set<number>();
  for (const item of items) {
    if (exclude.has(item) || seen.has(item)) continue;
    if (seen.size >= depth) return MISS;
    if (item === target) return seen.size;
    seen.add(item);
  }
  return MISS;
}
