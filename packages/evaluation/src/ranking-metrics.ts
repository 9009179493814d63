/** Figures of one ranking against a set of relevant items (binary relevance). */
export interface RankingScores {
  readonly hitRate: number;
  readonly recall: number;
  readonly precision: number;
  readonly ndcg: number;
  /** reciprocal rank of the first relevant item */
  readonly mrr: number;
  /** average precision: divided by the number of relevant items */
  readonly map: number;
}

/**
 * Hit rate, recall, precision, NDCG, reciprocal rank and average precision of the first `k` of a ranking. Precision divides by k,
 * also where the ranking is shorter. With no relevant item every figure is 0.
 */
export function rankingScores<T>(ranking: readonly T[], relevant: ReadonlySet<T>, k: number): RankingScores {
  let hits = 0;
  let gain = 0;
  let first = 0;
  let precisions = 0;
  const seen = new Set<T>();
  for (let i = 0; i < Math.min(k, ranking.length); i++) {
    if (!relevant.has(ranking[i]) || seen.has(ranking[i])) continue;
    seen.add(ranking[i]);
    hits++;
    gain += 1 / Math.log2(i + 2);
    precisions += hits / (i + 1);
    if (hits === 1) first = 1 / (i + 1);
  }
  if (hits === 0) return { hitRate: 0, recall: 0, precision: 0, ndcg: 0, mrr: 0, map: 0 };
  let ideal = 0;
  for (let i = 0; i < Math.min(k, relevant.size); i++) ideal += 1 / Math.log2(i + 2);
  return {
    hitRate: 1,
    recall: hits / relevant.size,
    precision: hits / k,
    ndcg: gain / ideal,
    mrr: first,
    map: precisions / relevant.size,
  };
}

/** Figures of next-item ranking over users; null where the system did not fit. `mrr` counts ranks within the evaluation's depth. */
export interface NextItemMetrics {
  readonly 'recall@1': number | null;
  readonly 'recall@5': number | null;
  readonly 'recall@10': number | null;
  readonly 'ndcg@10': number | null;
  readonly mrr: number | null;
}

/** Hit at `k` by 0-based rank; with one true item recall@k is the mean of this. Negative: the ranking does not hold the item. */
export const hitAt = (rank: number, k: number): number => (rank >= 0 && rank < k ? 1 : 0);

/** NDCG at `k` with one true item: 1 / log2(rank + 2) within the first k. */
export const gainAt = (rank: number, k: number): number => (rank >= 0 && rank < k ? 1 / Math.log2(rank + 2) : 0);

/** 1 / (rank + 1) within `depth`, else 0. */
export const reciprocalRank = (rank: number, depth: number): number => (rank >= 0 && rank < depth ? 1 / (rank + 1) : 0);

/** Means over users of 0-based ranks of the one true item (negative: missed). */
export function nextItemMetrics(ranks: ArrayLike<number>, depth: number): NextItemMetrics {
  const sums = [0, 0, 0, 0, 0];
  for (let i = 0; i < ranks.length; i++) {
    sums[0] += hitAt(ranks[i], 1);
    sums[1] += hitAt(ranks[i], 5);
    sums[2] += hitAt(ranks[i], 10);
    sums[3] += gainAt(ranks[i], 10);
    sums[4] += reciprocalRank(ranks[i], depth);
  }
  const [one, five, ten, ndcg, mrr] = sums.map((sum) => sum / ranks.length);
  return { 'recall@1': one, 'recall@5': five, 'recall@10': ten, 'ndcg@10': ndcg, mrr };
}

/** The metrics of a system that did not fit. */
export const NO_METRICS: NextItemMetrics = { 'recall@1': null, 'recall@5': null, 'recall@10': null, 'ndcg@10': null, mrr: null };
