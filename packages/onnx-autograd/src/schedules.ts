/** A factor on the learning rate at a step counted from 1. */
export type Schedule = (step: number) => number;

export const constantRate = (): Schedule => () => 1;

/**
 * Linear warm-up from 0, then half a cosine down to `floor` (the paper: 10 % warm-up, cosine decay).
 *
 * @param steps length of the run
 * @param warmup steps of warm-up; a fraction below 1 is a share of `steps`
 */
export function warmupCosine({ steps, warmup = 0.1, floor = 0 }: { steps: number; warmup?: number; floor?: number }): Schedule {
  const rising = warmup < 1 ? Math.round(steps * warmup) : warmup;
  return (step) => {
    if (step <= rising) return step / Math.max(1, rising);
    const progress = Math.min(1, (step - rising) / Math.max(1, steps - rising));
    return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/** Linear warm-up, then constant. */
export const warmupConstant =
  (warmup: number): Schedule =>
  (step) =>
    Math.min(1, step / Math.max(1, warmup));
