/** Arithmetic mean; NaN of nothing. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** The `p`-th percentile (0 to 100) with linear interpolation between neighbours; NaN of nothing, and where a value is. */
export function percentile(values: ArrayLike<number>, p: number): number {
  return sortedPercentile(Float64Array.from(values).sort(), p);
}

/** {@link percentile} of values that are already in ascending order. */
export function sortedPercentile(sorted: Float64Array, p: number): number {
  // NaN comes last.
  if (sorted.length === 0 || Number.isNaN(sorted[sorted.length - 1])) return NaN;
  const position = ((sorted.length - 1) * p) / 100;
  const below = Math.min(Math.floor(position), sorted.length - 1);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

/** Ranks from 1; equal values share the average of their ranks. All NaN where a value is: it has no place among the others. */
export function averageRanks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).sort((left, right) => values[left] - values[right]);
  const ranks = new Float64Array(values.length);
  if (order.some((i) => Number.isNaN(values[i]))) return ranks.fill(NaN);
  for (let from = 0; from < order.length;) {
    let to = from;
    while (to < order.length && values[order[to]] === values[order[from]]) to++;
    for (let i = from; i < to; i++) ranks[order[i]] = (from + 1 + to) / 2;
    from = to;
  }
  return ranks;
}

/** Spearman's rank correlation, ties by average rank; NaN where one side does not vary. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  if (x.length !== y.length) throw new RangeError(`spearman: ${x.length} values against ${y.length}; give as many of each.`);
  const left = averageRanks(x);
  const right = averageRanks(y);
  const middle = (x.length + 1) / 2;
  let product = 0;
  let squaresLeft = 0;
  let squaresRight = 0;
  for (let i = 0; i < left.length; i++) {
    product += (left[i] - middle) * (right[i] - middle);
    squaresLeft += (left[i] - middle) ** 2;
    squaresRight += (right[i] - middle) ** 2;
  }
  return product / Math.sqrt(squaresLeft * squaresRight);
}
