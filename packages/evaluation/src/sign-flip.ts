import { random } from './random.js';

/** Options of {@link signFlipTest}. */
export interface SignFlipOptions {
  readonly seed: number;
  /** random sign patterns where not all can be tried. Default 10,000. */
  readonly resamples?: number;
  /** all sign patterns are tried up to this many differences that are not zero. Default 20. */
  readonly exactUpTo?: number;
}

/** Result of {@link signFlipTest}. */
export interface SignFlipResult {
  /** two-sided; NaN where a difference is no number or not finite */
  readonly p: number;
  /** all sign patterns were counted; otherwise a random sample of them */
  readonly exact: boolean;
}

/**
 * Paired randomisation test: were two systems the same, the sign of each user's difference would be a coin. `p` is the share of sign
 * patterns whose mean is at least as far from zero as the observed one. Exact where few differences are not zero, or where all of them
 * have the same size (hits and misses; then it is McNemar's exact test); else by random patterns, (1 + found) / (1 + tried).
 */
export function signFlipTest(differences: ArrayLike<number>, options: SignFlipOptions): SignFlipResult {
  const { seed, resamples = 10_000, exactUpTo = 20 } = options;
  const sizes = Array.from(differences).filter((difference) => difference !== 0);
  const observed = Math.abs(sizes.reduce((sum, difference) => sum + difference, 0));
  const total = sizes.reduce((sum, difference) => sum + Math.abs(difference), 0);
  const enough = observed - 1e-10 * total;
  if (sizes.length === 0) return { p: 1, exact: true };
  if (!Number.isFinite(total)) return { p: NaN, exact: false };
  const size = Math.abs(sizes[0]);
  if (sizes.every((difference) => Math.abs(difference) === size))
    return { p: equalSizes(sizes.length, Math.round(observed / size)), exact: true };
  if (sizes.length <= exactUpTo) return { p: everyPattern(sizes, enough), exact: true };
  const source = random(seed);
  let found = 0;
  for (let b = 0; b < resamples; b++) {
    let sum = 0;
    let bits = 0;
    for (let i = 0; i < sizes.length; i++) {
      if (i % 32 === 0) bits = source.uint32();
      sum += (bits >>> (i % 32)) & 1 ? sizes[i] : -sizes[i];
    }
    if (Math.abs(sum) >= enough) found++;
  }
  return { p: (1 + found) / (1 + resamples), exact: false };
}

/** Gray code: each pattern differs from the one before in a single sign. */
function everyPattern(sizes: readonly number[], enough: number): number {
  const signed = sizes.slice();
  let sum = signed.reduce((left, right) => left + right, 0);
  const patterns = 2 ** sizes.length;
  let found = 0;
  for (let pattern = 1; pattern <= patterns; pattern++) {
    if (Math.abs(sum) >= enough) found++;
    const flip = Math.min(31 - Math.clz32(pattern & -pattern), sizes.length - 1);
    signed[flip] = -signed[flip];
    sum += 2 * signed[flip];
  }
  return found / patterns;
}

/** P(|heads - tails| >= observed) of n fair coins. */
function equalSizes(n: number, observed: number): number {
  let logChoose = -n * Math.log(2);
  let p = 0;
  for (let heads = 0; heads <= n; heads++) {
    if (Math.abs(2 * heads - n) >= observed) p += Math.exp(logChoose);
    logChoose += Math.log(n - heads) - Math.log(heads + 1);
  }
  return Math.min(1, p);
}
