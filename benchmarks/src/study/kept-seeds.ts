import type { MachineDescription, Outcome } from '@user-llm/evaluation';
import { checkTerms, readKept, writeKept } from './kept-file.js';
import type { CaseRanks } from './ranks.js';

/** What must be the same for seeds of several runs to stand in one mean; the number of threads changes nothing. */
export interface SeedTerms {
  readonly seed: number;
  readonly shape: Readonly<Record<string, unknown>>;
  /** Steps or seconds, rate and batch. */
  readonly training: Readonly<Record<string, unknown>>;
  readonly recipe: number;
  /** Hash of what the systems are asked, the log in it: ranks are compared user by user. */
  readonly task: string;
}

/** One seed's ranks, where they were measured and by which command. */
export interface KeptSeed {
  readonly terms: SeedTerms;
  readonly machine: MachineDescription;
  readonly command: string;
  /** Filtered ranks of every system, user by user. */
  readonly ranks: Readonly<Record<string, CaseRanks>>;
}

/** How encoders are pretrained, raised by what makes earlier ones incomparable: the first three of `systemRecipe`. */
export const encoderRecipe = 3;

export function ranksOf(outcomes: readonly Outcome[]): Record<string, CaseRanks> {
  return Object.fromEntries(
    outcomes.map(({ system, filteredRanks }) => {
      if (!filteredRanks) throw new Error(`internal: no ranks of ${system}`);
      return [system, filteredRanks];
    }),
  );
}

/** Keeps a seed's ranks beside its result, so that a mean over seeds is made of runs on whatever machine is free. */
export const keepSeed = (file: string, seed: KeptSeed): Promise<void> => writeKept(file, seed);

/** A seed that an earlier run measured, or undefined where none did. @throws UsageError where it was measured by other terms */
export async function keptSeed(file: string, terms: SeedTerms): Promise<KeptSeed | undefined> {
  const kept = await readKept<KeptSeed>(file);
  if (kept) checkTerms(file, kept.terms, terms);
  return kept;
}
