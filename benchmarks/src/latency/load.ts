import { median, quantile } from '../encoder/statistics.js';
import { EventLoopWatch } from './event-loop.js';

export interface LoadFigures {
  readonly requests: number;
  readonly firstTokenP50Ms: number;
  readonly firstTokenP95Ms: number;
  readonly answerP50Ms: number;
  readonly answerP95Ms: number;
  readonly tokensPerSecond: number;
  readonly longestGapMs: number;
}

/** One answer under load, as who asked saw it. */
export interface Served {
  readonly firstTokenMs: number;
  readonly totalMs: number;
  readonly tokens: number;
}

/** So many users at once, each asking again when the answer is there, for so many seconds. */
export async function underLoad(users: number, seconds: number, ask: (user: number) => Promise<Served>): Promise<LoadFigures> {
  await Promise.all(Array.from({ length: users }, (_, user) => ask(user)));
  const answers: Served[] = [];
  const watch = new EventLoopWatch();
  const begun = performance.now();
  const end = begun + seconds * 1e3;
  await Promise.all(
    Array.from({ length: users }, async (_, user) => {
      while (performance.now() < end) answers.push(await ask(user));
    }),
  );
  const took = (performance.now() - begun) / 1e3;
  const first = answers.map(({ firstTokenMs }) => firstTokenMs);
  const total = answers.map(({ totalMs }) => totalMs);
  return {
    requests: answers.length,
    firstTokenP50Ms: median(first),
    firstTokenP95Ms: quantile(first, 0.95),
    answerP50Ms: median(total),
    answerP95Ms: quantile(total, 0.95),
    tokensPerSecond: answers.reduce((sum, { tokens }) => sum + tokens, 0) / took,
    longestGapMs: watch.stop(),
  };
}
