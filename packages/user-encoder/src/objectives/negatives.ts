import type { Random } from '@user-llm/onnx-autograd';

/** Ids 0 to `weights.length` drawn in proportion to their weights. */
export class WeightedIds {
  private readonly upTo: Float64Array;

  constructor(weights: Float64Array) {
    let sum = 0;
    this.upTo = weights.map((weight) => (sum += weight));
  }

  private get total(): number {
    return this.upTo[this.upTo.length - 1];
  }

  /** Probability of an id. */
  share(id: number): number {
    return (this.upTo[id] - (id === 0 ? 0 : this.upTo[id - 1])) / this.total;
  }

  draw(random: Random): number {
    const at = random.next() * this.total;
    let low = 0;
    let high = this.upTo.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.upTo[middle] > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** `count` draws, an id as often as it comes. */
export const drawWeighted = (ids: WeightedIds, count: number, random: Random): Int32Array =>
  Int32Array.from({ length: count }, () => ids.draw(random));

/** `count` different numbers below `limit`, every set of them equally likely (Floyd's algorithm), in ascending order. */
export function drawDistinct(limit: number, count: number, random: Random): Int32Array {
  const drawn = new Set<number>();
  for (let last = limit - count; last < limit; last++) {
    const candidate = random.integer(last + 1);
    drawn.add(drawn.has(candidate) ? last : candidate);
  }
  return Int32Array.from(drawn).sort();
}
