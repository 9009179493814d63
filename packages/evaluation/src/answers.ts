import type { Outcome } from './outcome.js';
import type { SplitCase } from './split.js';
import type { Cost } from './system.js';
import type { FavouriteGenreTask, Task } from './task.js';

/** The answer to one user's question. */
export type Answer = { readonly ms: number; readonly cost?: Cost | undefined } & (
  { readonly filtered: number; readonly unfiltered: number } | { readonly label: number }
);

/** What a system has answered so far, user by user; those of an outcome that was interrupted may be the first. */
export class Answers {
  readonly #byUser = new Map<number, Answer>();
  readonly #costs = new CostMeans();

  constructor(begun?: Outcome) {
    if (begun === undefined) return;
    const { users, latencyMs, filteredRanks, unfilteredRanks, predictions } = begun;
    users.forEach((user, i) => {
      const ms = latencyMs[i];
      this.#byUser.set(
        user,
        predictions ? { ms, label: predictions[i] } : { ms, filtered: filteredRanks![i], unfiltered: unfilteredRanks![i] },
      );
    });
    this.#costs.begin(begun);
  }

  get size(): number {
    return this.#byUser.size;
  }

  has(user: number): boolean {
    return this.#byUser.has(user);
  }

  add(user: number, answer: Answer): void {
    this.#byUser.set(user, answer);
    this.#costs.add(answer.cost);
  }

  /** The answers to those of the cases that have one, as an outcome holds them. */
  of(
    task: Task,
    cases: readonly SplitCase[],
  ): Pick<
    Outcome,
    'users' | 'filteredRanks' | 'unfilteredRanks' | 'predictions' | 'truth' | 'latencyMs' | 'tokensPerRequest' | 'flopsPerRequest'
  > {
    const answered = cases.filter(({ user }) => this.#byUser.has(user));
    const answers = answered.map(({ user }) => this.#byUser.get(user)!);
    const figures =
      task.name === 'next-item'
        ? {
            filteredRanks: answers.map((answer) => ('filtered' in answer ? answer.filtered : NaN)),
            unfilteredRanks: answers.map((answer) => ('unfiltered' in answer ? answer.unfiltered : NaN)),
          }
        : { predictions: answers.map((answer) => ('label' in answer ? answer.label : NaN)), truth: truthOf(task, answered) };
    return {
      users: answered.map(({ user }) => user),
      ...figures,
      latencyMs: answers.map(({ ms }) => ms),
      ...this.#costs.means(),
    };
  }
}

function truthOf(task: FavouriteGenreTask, cases: readonly SplitCase[]): number[] {
  const truth = new Map(task.cases.map((one, i) => [one.user, task.truth[i]]));
  return cases.map((one) => truth.get(one.user) as number);
}

class CostMeans {
  #tokens = 0;
  #flops = 0;
  #requests = 0;
  #complete = true;

  /** Those of the requests that were counted before. */
  begin({ users, tokensPerRequest, flopsPerRequest }: Outcome): void {
    this.#requests = users.length;
    this.#complete = users.length === 0 || (tokensPerRequest !== null && flopsPerRequest !== null);
    this.#tokens = users.length * (tokensPerRequest ?? 0);
    this.#flops = users.length * (flopsPerRequest ?? 0);
  }

  add(cost: Cost | undefined): void {
    this.#requests++;
    if (!cost) this.#complete = false;
    this.#tokens += cost?.tokens ?? 0;
    this.#flops += cost?.flops ?? 0;
  }

  means(): { tokensPerRequest: number | null; flopsPerRequest: number | null } {
    if (!this.#complete || this.#requests === 0) return { tokensPerRequest: null, flopsPerRequest: null };
    return { tokensPerRequest: this.#tokens / this.#requests, flopsPerRequest: this.#flops / this.#requests };
  }
}
