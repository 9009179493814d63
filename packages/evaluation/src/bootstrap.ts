import { mean, sortedPercentile } from './descriptive.js';
import { normalCdf, normalQuantile } from './normal-distribution.js';
import { random } from './random.js';

/** Options of {@link bootstrap}. */
export interface BootstrapOptions {
  readonly seed: number;
  /** Default 2,000. */
  readonly resamples?: number;
  /** Coverage. Default 0.95. */
  readonly level?: number;
  /** `bca` corrects bias and skew (Efron 1987) and costs one leave-one-out pass more. Default `percentile`. */
  readonly method?: 'percentile' | 'bca';
  /** Default: the mean. */
  readonly statistic?: (sample: Float64Array) => number;
}

/** Lower and upper end of an interval. */
export type Interval = [low: number, high: number];

/**
 * Bootstrap interval of a statistic over users. For a *paired* comparison of two systems give the differences user by user: each
 * resample then draws users, and both systems' figures of a user together.
 *
 * @returns NaN for both ends where the statistic of a resample is no number
 */
export function bootstrap(values: ArrayLike<number>, options: BootstrapOptions): Interval {
  const { seed, resamples = 2000, level = 0.95, method = 'percentile', statistic } = options;
  const n = values.length;
  if (n === 0) throw new RangeError('bootstrap: there are no values to resample.');
  const source = random(seed);
  const sample = new Float64Array(n);
  const found = new Float64Array(resamples);
  for (let b = 0; b < resamples; b++) {
    if (statistic) {
      for (let i = 0; i < n; i++) sample[i] = values[source.below(n)];
      found[b] = statistic(sample);
    } else {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += values[source.below(n)];
      found[b] = sum / n;
    }
  }
  found.sort();
  const tail = (1 - level) / 2;
  const ends = method === 'bca' && n > 1 ? corrected(values, statistic ?? mean, found, tail) : [tail, 1 - tail];
  return [sortedPercentile(found, 100 * ends[0]), sortedPercentile(found, 100 * ends[1])];
}

/** BCa: where in the bootstrap distribution the interval ends, after the corrections for bias (z0) and acceleration (a). */
function corrected(
  values: ArrayLike<number>,
  statistic: (sample: Float64Array) => number,
  sorted: Float64Array,
  tail: number,
): Interval {
  const whole = Float64Array.from(values);
  const observed = statistic(whole);
  let below = 0;
  for (const value of sorted) below += value < observed ? 1 : value === observed ? 0.5 : 0;
  const z0 = normalQuantile(below / sorted.length);
  const left = new Float64Array(whole.length);
  const rest = new Float64Array(whole.length - 1);
  for (let i = 0; i < whole.length; i++) {
    rest.set(whole.subarray(0, i));
    rest.set(whole.subarray(i + 1), i);
    left[i] = statistic(rest);
  }
  const centre = mean(left);
  let squares = 0;
  let cubes = 0;
  for (const value of left) {
    squares += (centre - value) ** 2;
    cubes += (centre - value) ** 3;
  }
  const acceleration = squares === 0 ? 0 : cubes / (6 * squares ** 1.5);
  const end = (z: number): number =>
    Number.isFinite(z0) ? normalCdf(z0 + (z0 + z) / (1 - acceleration * (z0 + z))) : normalCdf(z);
  return [end(normalQuantile(tail)), end(normalQuantile(1 - tail))];
}
