import { setTimeout as rest } from 'node:timers/promises';
import { mean, percentile } from './descriptive.js';
import { InvalidOptionError } from './errors.js';

/** What a measured request reports of itself. */
export interface ScalingSample {
  /** tokens that the language model read */
  readonly tokens: number;
  /** time to first token where the call goes on after it; default: the whole call, on the wall clock */
  readonly ms?: number;
}

/** A request with a user's last `events` events; null where it does not fit the model. */
export type ScalingRequest<User> = (
  user: User,
  events: number,
  signal?: AbortSignal,
) => Promise<ScalingSample | null> | ScalingSample | null;

/** Options of {@link measureScaling}. */
export interface ScalingOptions<User> {
  /** history lengths, for example [50, 100, 200] */
  readonly events: readonly number[];
  /** users with at least that many events; a list must hold such users only */
  readonly users: readonly User[] | ((events: number) => readonly User[]);
  /** the whole history in the prompt */
  readonly textPrompt: ScalingRequest<User>;
  /** the embedding from the store and a short prompt */
  readonly userLlm: ScalingRequest<User>;
  /** measured requests per user, length and side. Default 5. */
  readonly repeats?: number;
  /**
   * Milliseconds of rest before each request, not measured: a runtime's threads may go on spinning for some time after a request, and
   * would take the cores from the other side's. Default 0.
   */
  readonly restMs?: number;
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
}

/** Time to first token of one side at one history length: medians over users and repeats; null where the prompt does not fit. */
export interface ScalingFigures {
  readonly tokens: number | null;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
}

/** One history length. */
export interface ScalingRow {
  readonly events: number;
  readonly textPrompt: ScalingFigures;
  readonly userLlm: ScalingFigures;
  /** textPrompt.p50Ms / userLlm.p50Ms */
  readonly ratio: number | null;
  readonly users?: number;
  readonly repeats?: number;
  readonly [further: string]: unknown;
}

/**
 * Latency against history length, both ways of telling the model about a user side by side. Repeats are interleaved (every length and
 * both sides in each round, the side that goes first alternating), so that a machine that slows down slows both; one round is not
 * counted (caches and memory fill); the median is reported.
 */
export async function measureScaling<User>(options: ScalingOptions<User>): Promise<ScalingRow[]> {
  const { events, repeats = 5, restMs = 0, signal } = options;
  if (!(Number.isInteger(repeats) && repeats > 0))
    throw new InvalidOptionError('repeats', `must be a positive integer, got ${repeats}.`);
  const lengths = events.map((count) => {
    const users = typeof options.users === 'function' ? options.users(count) : options.users;
    if (users.length === 0)
      throw new InvalidOptionError('users', `there is no user with ${count} events; measure shorter histories.`);
    return { count, users, sides: { textPrompt: new Side(options.textPrompt), userLlm: new Side(options.userLlm) } };
  });
  const total = (repeats + 1) * lengths.reduce((sum, { users }) => sum + users.length, 0);
  let done = 0;
  for (let round = 0; round <= repeats; round++) {
    let index = 0;
    for (const { count, users, sides } of lengths) {
      for (const user of users) {
        const order = (round + index++) % 2 === 0 ? [sides.textPrompt, sides.userLlm] : [sides.userLlm, sides.textPrompt];
        for (const side of order) {
          signal?.throwIfAborted();
          if (restMs > 0) await rest(restMs, undefined, { signal });
          await side.measure(user, count, round > 0, signal);
        }
        options.onProgress?.({ done: ++done, total });
      }
    }
  }
  return lengths.map(({ count, users, sides }) => {
    const textPrompt = sides.textPrompt.figures();
    const userLlm = sides.userLlm.figures();
    const ratio = textPrompt.p50Ms === null || userLlm.p50Ms === null ? null : textPrompt.p50Ms / userLlm.p50Ms;
    return { events: count, textPrompt, userLlm, ratio, users: users.length, repeats };
  });
}

class Side<User> {
  #ms: number[] = [];
  #tokens: number[] = [];
  #fits = true;
  readonly #request: ScalingRequest<User>;

  constructor(request: ScalingRequest<User>) {
    this.#request = request;
  }

  async measure(user: User, events: number, counted: boolean, signal?: AbortSignal): Promise<void> {
    if (!this.#fits) return;
    const start = performance.now();
    const sample = await this.#request(user, events, signal);
    const ms = performance.now() - start;
    if (sample === null) this.#fits = false;
    else if (counted) {
      this.#ms.push(sample.ms ?? ms);
      this.#tokens.push(sample.tokens);
    }
  }

  figures(): ScalingFigures {
    if (!this.#fits) return { tokens: null, p50Ms: null, p95Ms: null };
    return { tokens: mean(this.#tokens), p50Ms: percentile(this.#ms, 50), p95Ms: percentile(this.#ms, 95) };
  }
}
