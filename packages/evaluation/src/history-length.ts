import { bootstrap } from './bootstrap.js';
import type { Interval } from './bootstrap.js';
import { InvalidOptionError } from './errors.js';
import { gainAt, hitAt } from './ranking-metrics.js';

/** A system that ranks with a user's last `events` events as the whole history. */
export interface HistoryLengthSystem<User> {
  readonly name: string;
  /** 0-based rank of the true item, -1 where the ranking does not hold it, null where the history does not fit the model */
  readonly rank: (user: User, events: number, signal?: AbortSignal) => Promise<number | null> | number | null;
}

/** Options of {@link measureHistoryLength}. */
export interface HistoryLengthOptions<User> {
  /** history lengths, for example [50, 100, 200] */
  readonly lengths: readonly number[];
  /** users with at least as many events as the longest: the same for all lengths */
  readonly users: readonly User[];
  readonly systems: readonly HistoryLengthSystem<User>[];
  /** of the intervals */
  readonly seed: number;
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
}

/** One system at one history length: filtered figures; null where a history does not fit. */
export interface HistoryLengthFigures {
  readonly name: string;
  readonly 'recall@10': number | null;
  readonly 'ndcg@10': number | null;
  /** 95 % bootstrap interval of recall@10 over users */
  readonly ci95: Interval | null;
}

/** One history length. */
export interface HistoryLengthRow {
  readonly events: number;
  readonly users: number;
  readonly systems: readonly HistoryLengthFigures[];
}

/**
 * Quality against history length (Ning et al., arXiv 2402.13598, section 4.3): the same users, whose histories are cut to their last N
 * events. What differs between two lengths is the history alone.
 */
export async function measureHistoryLength<User>(options: HistoryLengthOptions<User>): Promise<HistoryLengthRow[]> {
  const { lengths, users, systems, seed, signal, onProgress } = options;
  if (users.length === 0)
    throw new InvalidOptionError('users', 'there are none; give users with the longest history, or shorter ones.');
  const total = lengths.length * systems.length * users.length;
  let begun = 0;
  const rows: HistoryLengthRow[] = [];
  for (const events of lengths) {
    const figures: HistoryLengthFigures[] = [];
    for (const { name, rank } of systems) {
      const ranks: number[] = [];
      for (const user of users) {
        signal?.throwIfAborted();
        const found = await rank(user, events, signal);
        // One history that does not fit is enough: figures over fewer users could not be compared.
        if (found === null) break;
        ranks.push(found);
        onProgress?.({ done: begun + ranks.length, total });
      }
      begun += users.length;
      figures.push(ranks.length === users.length ? figuresOf(name, ranks, seed) : doesNotFit(name));
    }
    rows.push({ events, users: users.length, systems: figures });
  }
  return rows;
}

function figuresOf(name: string, ranks: readonly number[], seed: number): HistoryLengthFigures {
  const hits = ranks.map((rank) => hitAt(rank, 10));
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    name,
    'recall@10': mean(hits),
    'ndcg@10': mean(ranks.map((rank) => gainAt(rank, 10))),
    ci95: bootstrap(hits, { seed }),
  };
}

const doesNotFit = (name: string): HistoryLengthFigures => ({ name, 'recall@10': null, 'ndcg@10': null, ci95: null });
