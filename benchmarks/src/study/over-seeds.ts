import { bootstrap, gainAt, hitAt, mean, type Interval, type Outcome } from '@user-llm/evaluation';

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
 * @param runs outcomes of each seed
 * @param baseline name of the system that all are compared with, user by user
 */
export function overSeeds(
  runs: readonly (readonly Outcome[])[],
  baseline: string,
): Record<string, Record<keyof typeof metrics, OverSeeds>> {
  const ranks = (outcomes: readonly Outcome[], system: string): readonly number[] => {
    const found = outcomes.find((outcome) => outcome.system === system)?.filteredRanks;
    if (!found) throw new Error(`internal: no ranks of ${system}`);
    return found;
  };
  const summary = (system: string, value: (rank: number, k: number) => number): OverSeeds => {
    const perSeed = runs.map((outcomes) => mean(ranks(outcomes, system).map((rank) => value(rank, 10))));
    const perUser = ranks(runs[0], system).map((_, user) =>
      mean(runs.map((outcomes) => value(ranks(outcomes, system)[user], 10) - value(ranks(outcomes, baseline)[user], 10))),
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
    runs[0].map(({ system }) => [
      system,
      { 'recall@10': summary(system, metrics['recall@10']), 'ndcg@10': summary(system, metrics['ndcg@10']) },
    ]),
  );
}
