/** Distribution function of the standard normal. */
export function normalCdf(x: number): number {
  const t = Math.abs(x);
  const upper = t < 3 ? 0.5 - seriesFromZero(t) : tail(t);
  return x > 0 ? 1 - upper : upper;
}

/** Inverse of {@link normalCdf}; -Infinity at 0, Infinity at 1. */
export function normalQuantile(p: number): number {
  if (p <= 0) return -Infinity;
  if (p >= 1) return Infinity;
  let low = -40;
  let high = 40;
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** Phi(x) - 1/2 = density(x) * (x + x^3/3 + x^5/(3*5) + ...). */
function seriesFromZero(x: number): number {
  let term = x;
  let sum = x;
  for (let k = 3; term > 1e-18 * sum; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return density(x) * sum;
}

/** 1 - Phi(x) as Laplace's continued fraction density(x) / (x + 1/(x + 2/(x + ...))). */
function tail(x: number): number {
  let fraction = x;
  for (let k = 200; k >= 1; k--) fraction = x + k / fraction;
  return density(x) / fraction;
}
