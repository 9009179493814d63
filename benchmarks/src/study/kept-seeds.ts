import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { MachineDescription, Outcome } from '@user-llm/evaluation';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { UsageError } from '@user-llm/reference';
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

export function ranksOf(outcomes: readonly Outcome[]): Record<string, CaseRanks> {
  return Object.fromEntries(
    outcomes.map(({ system, filteredRanks }) => {
      if (!filteredRanks) throw new Error(`internal: no ranks of ${system}`);
      return [system, filteredRanks];
    }),
  );
}

/** Keeps a seed's ranks beside its result, so that a mean over seeds is made of runs on whatever machine is free. */
export async function keepSeed(file: string, seed: KeptSeed): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFileAtomically(file, [Buffer.from(`${JSON.stringify(seed)}\n`)]);
}

/** A seed that an earlier run measured, or undefined where none did. @throws UsageError where it was measured by other terms */
export async function keptSeed(file: string, terms: SeedTerms): Promise<KeptSeed | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const kept = JSON.parse(text) as KeptSeed;
  // As they come back out of a file: without what is undefined.
  const asked = JSON.parse(JSON.stringify(terms)) as SeedTerms;
  for (const name of Object.keys(asked) as (keyof SeedTerms)[])
    if (!isDeepStrictEqual(kept.terms[name], asked[name]))
      throw new UsageError(
        `${path.basename(file)} was measured with ${name} ${JSON.stringify(kept.terms[name])}, not ${JSON.stringify(asked[name])}; ` +
          'give the same, or leave out --keep',
      );
  return kept;
}
