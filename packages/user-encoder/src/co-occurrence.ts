import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import type { Span } from './span.js';

/** A symmetric matrix [V, V] by its rows: of row i the columns and values from `starts[i]` to `starts[i + 1]`. */
export interface SparseMatrix {
  readonly size: number;
  readonly starts: Float64Array;
  readonly columns: Int32Array;
  readonly values: Float32Array;
}

/** Two events of a user count as near when at most so many lie from one to the other. */
const reach = 10;
/** What a pair counts for, to the power of the events between its two. */
const fading = 0.8;
/** Of a longer log every so many-th user is read, so that the pairs, 16 bytes each, stay below 170 MB. */
const mostEvents = 2 ** 20;

/**
 * How much more often items stand near each other in histories than by chance: positive pointwise mutual information,
 * max(0, log(n(a, b) n / ((n(a) + 1) (n(b) + 1)))), with the pairs of a user's events counted the less the farther apart they are.
 * The ones keep items that are hardly ever there from meaning much.
 *
 * @param ids items of all events; special ids count for nothing
 * @param spans events of each user
 * @param size V
 */
export function coOccurrence(ids: Int32Array, spans: readonly Span[], size: number): SparseMatrix {
  const events = spans.reduce((sum, { start, end }) => sum + end - start, 0);
  const stride = Math.max(1, Math.ceil(events / mostEvents));
  const read = spans.filter((_, user) => user % stride === 0);
  const starts = new Float64Array(size + 1);
  for (const [a, b] of pairs(ids, read)) {
    starts[a + 1]++;
    starts[b + 1]++;
  }
  for (let item = 0; item < size; item++) starts[item + 1] += starts[item];
  const columns = new Int32Array(starts[size]);
  const values = new Float32Array(starts[size]);
  const counts = new Float64Array(size);
  const next = starts.slice();
  for (const [a, b, weight] of pairs(ids, read)) {
    columns[next[a]] = b;
    values[next[a]++] = weight;
    columns[next[b]] = a;
    values[next[b]++] = weight;
    counts[a] += weight;
    counts[b] += weight;
  }
  return informative({ size, starts, columns, values }, counts);
}

/** Every two near events of different items, and what they count for. The array that is given is one and the same. */
function* pairs(ids: Int32Array, spans: readonly Span[]): Generator<readonly [a: number, b: number, weight: number]> {
  const pair: [number, number, number] = [0, 0, 0];
  for (const { start, end } of spans)
    for (let i = start; i < end; i++) {
      if (ids[i] < FIRST_VALUE_ID) continue;
      const last = Math.min(end, i + 1 + reach);
      let weight = 1;
      for (let j = i + 1; j < last; j++, weight *= fading) {
        if (ids[j] < FIRST_VALUE_ID || ids[j] === ids[i]) continue;
        pair[0] = ids[i];
        pair[1] = ids[j];
        pair[2] = weight;
        yield pair;
      }
    }
}

/** Pairs that stand several times in a row become one, and what they say takes the place of how often they are there. Changes the arrays. */
function informative({ size, starts, columns, values }: SparseMatrix, counts: Float64Array): SparseMatrix {
  const total = counts.reduce((a, b) => a + b, 0);
  const sums = new Float64Array(size);
  const kept = new Float64Array(size + 1);
  let place = 0;
  for (let item = 0; item < size; item++) {
    const met: number[] = [];
    for (let i = starts[item]; i < starts[item + 1]; i++) {
      if (sums[columns[i]] === 0) met.push(columns[i]);
      sums[columns[i]] += values[i];
    }
    for (const other of met) {
      const information = Math.log((sums[other] * total) / ((counts[item] + 1) * (counts[other] + 1)));
      sums[other] = 0;
      if (information <= 0) continue;
      columns[place] = other;
      values[place++] = information;
    }
    kept[item + 1] = place;
  }
  return { size, starts: kept, columns: columns.subarray(0, place), values: values.subarray(0, place) };
}
