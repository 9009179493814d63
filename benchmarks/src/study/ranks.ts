import { bootstrap, denseRanks, gainAt, hitAt, mean, signFlipTest, UNKNOWN_ITEM, type Interval } from '@user-llm/evaluation';

/** 0-based filtered ranks of the true item among all items, one for each case; -1 where no ranking can hold it. */
export type CaseRanks = readonly number[];

/** Recall@10 (the share of hits, there being one true item) and NDCG@10 with 95 % bootstrap intervals over the cases. */
export interface Figures {
  readonly cases: number;
  readonly 'recall@10': number;
  readonly 'ndcg@10': number;
  readonly ci95: { readonly 'recall@10': Interval; readonly 'ndcg@10': Interval };
  /** Of every seed, where there are several: the figures above are of the means over seeds. */
  readonly bySeed?: readonly { readonly 'recall@10': number; readonly 'ndcg@10': number }[];
}

/** One side minus the other, case by case: its mean, 95 % paired bootstrap interval, two-sided paired sign-flip test. */
export interface Difference {
  readonly delta: number;
  readonly ci95: Interval;
  readonly p: number;
}

export interface Comparison {
  readonly 'recall@10': Difference;
  readonly 'ndcg@10': Difference;
}

const metrics = { 'recall@10': hitAt, 'ndcg@10': gainAt } as const;

/** Rank of the true item by its score, those of the history left out. */
export function rankOf(scores: Float32Array | Float64Array, target: number, history: ArrayLike<number>): number {
  if (target === UNKNOWN_ITEM) return -1;
  const met = new Set<number>();
  for (let i = 0; i < history.length; i++) if (history[i] !== UNKNOWN_ITEM) met.add(history[i]);
  const ranks = denseRanks(scores, target, met);
  if (!ranks) throw new Error('internal: a score that is not a number');
  return ranks.filtered;
}

/** Figures of one system: the ranks of every seed, over the same cases. */
export function figures(bySeed: readonly CaseRanks[], seed: number): Figures {
  const [recall, ndcg] = (['recall@10', 'ndcg@10'] as const).map((metric) => perCase(bySeed, metric));
  return {
    cases: recall.length,
    'recall@10': mean(recall),
    'ndcg@10': mean(ndcg),
    ci95: { 'recall@10': bootstrap(recall, { seed }), 'ndcg@10': bootstrap(ndcg, { seed }) },
    ...(bySeed.length > 1 && {
      bySeed: bySeed.map((ranks) => ({
        'recall@10': mean(perCase([ranks], 'recall@10')),
        'ndcg@10': mean(perCase([ranks], 'ndcg@10')),
      })),
    }),
  };
}

/** `ours` minus `theirs` on the same cases; each side is the mean of its seeds, so that the interval is one over users. */
export function compared(ours: readonly CaseRanks[], theirs: readonly CaseRanks[], seed: number): Comparison {
  const difference = (metric: keyof typeof metrics): Difference => {
    const [a, b] = [perCase(ours, metric), perCase(theirs, metric)];
    const differences = a.map((value, i) => value - b[i]);
    return { delta: mean(differences), ci95: bootstrap(differences, { seed }), p: signFlipTest(differences, { seed }).p };
  };
  return { 'recall@10': difference('recall@10'), 'ndcg@10': difference('ndcg@10') };
}

function perCase(bySeed: readonly CaseRanks[], metric: keyof typeof metrics): Float64Array {
  return Float64Array.from(
    bySeed[0],
    (_, i) => bySeed.reduce((sum, ranks) => sum + metrics[metric](ranks[i], 10), 0) / bySeed.length,
  );
}
