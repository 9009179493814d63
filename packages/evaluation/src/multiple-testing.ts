/** Holm's step-down adjustment: controls the chance of any false discovery. Returned in the order given. */
export function holm(p: readonly number[]): number[] {
  const order = ascending(p);
  const adjusted = new Array<number>(p.length);
  let running = 0;
  order.forEach((index, position) => {
    running = Math.max(running, Math.min(1, p[index] * (p.length - position)));
    adjusted[index] = running;
  });
  return adjusted;
}

/** Benjamini and Hochberg's step-up adjustment: controls the expected share of false discoveries. Returned in the order given. */
export function benjaminiHochberg(p: readonly number[]): number[] {
  const order = ascending(p);
  const adjusted = new Array<number>(p.length);
  let running = 1;
  for (let position = p.length - 1; position >= 0; position--) {
    const index = order[position];
    running = Math.min(running, (p[index] * p.length) / (position + 1));
    adjusted[index] = running;
  }
  return adjusted;
}

function ascending(p: readonly number[]): number[] {
  return p.map((_, index) => index).sort((left, right) => p[left] - p[right]);
}
