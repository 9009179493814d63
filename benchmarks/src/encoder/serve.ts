import { openStore } from '@user-llm/embedding-store';
import { dropLast, FIRST_VALUE_ID, takeLast, type CategoricalColumn, type EventColumns } from '@user-llm/event-tokenizer';
import type { StateDtype, UserEncoder } from '@user-llm/user-encoder';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { longHistory, type Log } from './log.js';
import { median, quantile } from './statistics.js';

const dtypes: readonly StateDtype[] = ['float32', 'float16', 'int8'];

/** Events `from` to `to` of one history. */
const part = (history: EventColumns, from: number, to: number): EventColumns =>
  takeLast(dropLast(history, history.offsets[1] - to), to - from);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export interface Percentiles {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const percentiles = (ms: readonly number[]): Percentiles => ({ p50Ms: median(ms), p99Ms: quantile(ms, 0.99) });

/** One new event: into a state in memory, without resampler and store; with the resampler; and with state bytes out of a store and back. */
export async function updateFigures(
  encoder: UserEncoder,
  log: Log,
  count: number,
): Promise<Percentiles & { withResampler: Percentiles; bytes: Record<string, Percentiles>; store: Record<string, Percentiles> }> {
  const before = 1000;
  const history = await longHistory(log, before + count);
  const next = Array.from({ length: count }, (_, i) => part(history, before + i, before + i + 1));
  const first = part(history, 0, before);
  const { state } = await encoder.encodeUser(first, 0, { state: true });

  const live = encoder.open(state);
  const steps: number[] = [];
  for (const event of next) steps.push(await timed(() => live.add(event)));
  const again = encoder.open(state);
  const resampled: number[] = [];
  for (const event of next)
    resampled.push(
      await timed(async () => {
        await again.add(event);
        await again.tokens();
      }),
    );

  const bytes: Record<string, Percentiles> = {};
  const store: Record<string, Percentiles> = {};
  const folder = await mkdtemp(path.join(tmpdir(), 'encoder-bench-'));
  const users = await openStore(`lmdb:${folder}`);
  try {
    for (const dtype of dtypes) {
      let found = await encoder.encodeUser(first, 0, { state: dtype });
      await users.put({ ...found, user: dtype });
      const plain: number[] = [];
      for (const event of next) plain.push(await timed(async () => (found = await encoder.update(found.state, event))));
      bytes[dtype] = percentiles(plain.slice(count / 10));
      const stored: number[] = [];
      for (const event of next.slice(0, 200))
        stored.push(
          await timed(async () => {
            const known = await users.get({ user: dtype }, { encoder: encoder.hash });
            if (known.status !== 'found') throw new Error(`internal: the store says ${known.status}`);
            await users.put({ ...(await encoder.update(known.embedding.state, event)), user: dtype });
          }),
        );
      store[dtype] = percentiles(stored.slice(20));
    }
  } finally {
    await users.close();
    await rm(folder, { recursive: true });
  }
  return {
    ...percentiles(steps.slice(count / 10)),
    withResampler: percentiles(resampled.slice(count / 10)),
    bytes,
    store,
  };
}

export interface StateFigures {
  readonly bytes: number;
  /** Largest difference of an embedding's number from that of one pass over the whole history, over the embedding's root mean square. */
  readonly largestError: number;
  readonly meanError: number;
  /** Largest difference of an item's score, over the standard deviation of the scores. */
  readonly largestScoreError: number;
  /** Of the ten best items of one pass, how many are among the ten best of the state. */
  readonly sameTopTen: number;
}

/** States after many updates against one pass over the whole history. */
export async function stateFigures(encoder: UserEncoder, log: Log, histories: number): Promise<Record<string, StateFigures>> {
  const known = 300;
  const later = 60;
  const length = known + later;
  const all = await longHistory(log, histories * length);
  const figures: Record<string, StateFigures> = {};
  for (const dtype of dtypes) {
    let largest = 0;
    let sum = 0;
    let count = 0;
    let same = 0;
    let largestOfScores = 0;
    for (let i = 0; i < histories; i++) {
      const history = part(all, i * length, (i + 1) * length);
      const exact = await encoder.encodeUser(history, 0);
      const scores = await encoder.scoreHistory(history, 0);
      const best = topTen(scores);
      let { state } = await encoder.encodeUser(part(history, 0, known), 0, { state: dtype });
      let data = exact.data;
      for (let event = known; event < length; event++)
        ({ state, data } = (await encoder.update(state, part(history, event, event + 1))) as {
          state: Uint8Array;
          data: Float32Array;
        });
      const scale = Math.sqrt(exact.data.reduce((total, x) => total + x * x, 0) / exact.data.length);
      data.forEach((x, at) => {
        const error = Math.abs(x - exact.data[at]) / scale;
        largest = Math.max(largest, error);
        sum += error;
      });
      count += data.length;
      const { ids } = history.fields[encoder.config.fields[0].name] as CategoricalColumn;
      const found = await encoder.open(state).scores(ids);
      same += topTen(found).filter((item) => best.includes(item)).length / 10;
      const spread = deviation(scores.subarray(FIRST_VALUE_ID));
      for (let id = FIRST_VALUE_ID; id < scores.length; id++)
        largestOfScores = Math.max(largestOfScores, Math.abs(found[id] - scores[id]) / spread);
    }
    figures[dtype] = {
      bytes: encoder.stateBytes(dtype),
      largestError: largest,
      meanError: sum / count,
      largestScoreError: largestOfScores,
      sameTopTen: same / histories,
    };
  }
  return figures;
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
}

function topTen(scores: Float32Array): number[] {
  // The special ids come first and are nothing that a user does.
  return [...scores.keys()]
    .slice(FIRST_VALUE_ID)
    .sort((a, b) => scores[b] - scores[a])
    .slice(0, 10);
}

/** Users encoded per second, all with a history of so many events. */
export async function encodeFigures(encoder: UserEncoder, log: Log, events: number): Promise<number> {
  const batch = 32;
  const all = await longHistory(log, 2 * batch * events);
  const users = {
    ...all,
    users: Array.from({ length: 2 * batch }, (_, user) => `user-${user}`),
    offsets: Int32Array.from({ length: 2 * batch + 1 }, (_, user) => user * events),
  };
  const rates: number[] = [];
  for (let round = 0; round < 4; round++) {
    const ms = await timed(async () => {
      for await (const _ of encoder.encode(users, { batch }));
    });
    rates.push((1000 * users.users.length) / ms);
  }
  // The first round opens the session.
  return Math.max(...rates.slice(1));
}
