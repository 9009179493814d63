import { InvalidOptionError } from './errors.js';

/** How one system answered one task, user by user: everything that the figures are made of. Plain JSON. */
export interface Outcome {
  readonly system: string;
  readonly kind: 'baseline' | 'system';
  readonly task: 'next-item' | 'favourite-genre';
  /** the task's hash; outcomes of other data are not mixed in */
  readonly taskHash: string;
  readonly depth: number;
  /** the system ranked a seeded sample of the test users */
  readonly sampled: boolean;
  /** what was answered before an interruption: not all users that were to be asked */
  readonly unfinished?: true;
  /** indices of the log's users, ascending */
  readonly users: readonly number[];
  /** next-item: 0-based rank of the true item, -1 where the ranking does not hold it */
  readonly filteredRanks?: readonly number[];
  readonly unfilteredRanks?: readonly number[];
  /** favourite-genre: index of the label chosen, -1 for one that is no label */
  readonly predictions?: readonly number[];
  readonly truth?: readonly number[];
  readonly latencyMs: readonly number[];
  /** means over requests; null where the system does not count */
  readonly tokensPerRequest: number | null;
  readonly flopsPerRequest: number | null;
  readonly fitSeconds?: number;
  /** why the system could not answer; its figures are null */
  readonly doesNotFit?: string;
  readonly examplesSeen?: number;
  readonly notes?: readonly string[];
}

/** Figures over the users that happened to be asked before an interruption are no system's figures. @throws InvalidOptionError */
export function checkFinished(option: string, { system, users, unfinished }: Outcome): void {
  if (unfinished)
    throw new InvalidOptionError(
      option,
      `the outcome of "${system}" was interrupted after ${users.length} users; evaluate that system too, or leave its outcome out.`,
    );
}
