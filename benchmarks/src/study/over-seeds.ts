import { bootstrap, gainAt, hitAt, mean, type Interval } from '@user-llm/evaluation';
import type { CaseRanks } from './ranks.js';

/** A metric of one system over several seeds. */
export interface OverSeeds {
  readonly mean: number;
  readonly lowest: number;
  readonly highest: number;
  /** Difference from the baseline, and its 95 % interval over users, each with the mean of the seeds. */
  readonly difference: number;
  readonly interval: Interval;
}

const metrics = { 'recall@10': hitAt, 'ndcg@10': gainAt } as const;

/**
 * What several seeds' filtered rankings of the same users say together.
 *
 * @param runs filtered ranks of each seed's systems, over the same users
 * @param baseline name of the system that all are compared with, user by user
 */
export function overSeeds(
  runs: readonly Readonly<Record<string, CaseRanks>>[],
  baseline: string,
): Record<string, Record<keyof typeof metrics, OverSeeds>> {
  const summary = (system: string, value: (rank: number, k: number) => number): OverSeeds => {
    const perSeed = runs.map((ranks) => mean(ranks[system].map((rank) => value(rank, 10))));
    const perUser = runs[0][system].map((_, user) =>
      mean(runs.map((ranks) => value(ranks[system][user], 10) - value(ranks[baseline][user], 10))),
    );
    return {
      mean: mean(perSeed),
      lowest: Math.min(...perSeed),
      highest: Math.max(...perSeed),
      difference: mean(perUser),
      interval: bootstrap(perUser, { seed: 1 }),
    };
  };
  return Object.fromEntries(
    Object.keys(runs[0]).map((system) => [
      system,
      { 'recall@10': summary(system, metrics['recall@10']), 'ndcg@10': summary(system, metrics['ndcg@10']) },
    ]),
  );
}
