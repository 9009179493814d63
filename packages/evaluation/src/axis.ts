/** A scale from data to pixels, and where its ticks stand. */
export interface Axis {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

/** Linear axis over [low, high], widened to round ticks; about `count` of them. */
export function linearAxis([low, high]: readonly [number, number], [from, to]: readonly [number, number], count = 5): Axis {
  const span = high > low ? high - low : Math.abs(high) || 1;
  const step = roundStep(span / count);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  const [start, end] = [first * step, last * step];
  return { at: (value) => from + ((value - start) / (end - start)) * (to - from), ticks };
}

/** Logarithmic axis over positive [low, high], widened to ticks at 1, 2 and 5 times powers of ten (powers only, over long spans). */
export function logAxis([low, high]: readonly [number, number], [from, to]: readonly [number, number]): Axis {
  const long = high / low > 1000;
  const candidates: number[] = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)) + 1; power++) {
    for (const digit of long ? [1] : [1, 2, 5]) candidates.push(Number((digit * 10 ** power).toPrecision(6)));
  }
  const first = candidates.findLastIndex((tick) => tick <= low * (1 + 1e-9));
  const last = candidates.findIndex((tick) => tick >= high * (1 - 1e-9));
  const ticks = candidates.slice(first, Math.max(last, first + 1) + 1);
  const [start, end] = [Math.log(ticks[0]), Math.log(ticks[ticks.length - 1])];
  return { at: (value) => from + ((Math.log(value) - start) / (end - start)) * (to - from), ticks };
}

function roundStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const digit = rough / power;
  return (digit <= 1.0001 ? 1 : digit <= 2.0001 ? 2 : digit <= 5.0001 ? 5 : 10) * power;
}
