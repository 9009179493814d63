/** Most distinct values that are counted exactly. */
const EXACT_DISTINCT = 4096;
/** Values per level once the sketch is approximate. */
const LEVEL_WIDTH = 8192;

/**
 * Quantiles of a stream in bounded memory.
 *
 * Exact while there are at most 4,096 distinct values. After that a deterministic multi-level compactor (the scheme of
 * Munro and Paterson 1980; Manku, Rajagopalan and Lindsay 1998): level h holds up to 8,192 values of weight 2^h; a full level is
 * sorted and every other value goes up, the odd and the even ones in turn. One such step moves the rank of any value by at most
 * 2^h, and {@link rankError} is the sum of these: at most (1 + log2(n / 8192)) / 8192 of the n values, .17 % for 50 million.
 * Memory is 64 KiB per level, so less than 1 MiB for 50 million.
 */
export class QuantileSketch {
  /** Values added. */
  count = 0;
  /** The rank of a returned quantile is off by at most this many values; 0 while exact. */
  rankError = 0;
  mean = 0;
  private squares = 0;
  private places: Map<number, number> | undefined = new Map();
  private distinct: number[] = [];
  private counts = new Float64Array(EXACT_DISTINCT);
  private levels: { data: Float64Array; length: number; odd: boolean }[] = [];

  add(value: number): void {
    this.count++;
    const off = value - this.mean;
    this.mean += off / this.count;
    this.squares += off * (value - this.mean);
    const places = this.places;
    if (places === undefined) {
      this.push(0, value);
      return;
    }
    const place = places.get(value);
    if (place !== undefined) this.counts[place]++;
    else if (this.distinct.length < EXACT_DISTINCT) {
      places.set(value, this.distinct.length);
      this.counts[this.distinct.length] = 1;
      this.distinct.push(value);
    } else {
      this.approximate();
      this.push(0, value);
    }
  }

  /** Standard deviation of the values added (of the population). */
  get deviation(): number {
    return this.count > 0 ? Math.sqrt(this.squares / this.count) : 0;
  }

  /**
   * Lower bounds of all quantile buckets but the first, ascending: a value's bucket is the number of bounds that are not greater.
   * At most `buckets - 1`; a bucket per distinct value where these are no more than `buckets`.
   */
  bounds(buckets: number): number[] {
    const weighted = this.weighted();
    if (weighted.length <= buckets) return weighted.slice(1).map(({ value }) => value);
    let total = 0;
    for (const { weight } of weighted) total += weight;
    const bounds: number[] = [];
    let below = 0;
    let at = 0;
    for (let bucket = 1; bucket < buckets; bucket++) {
      const rank = (bucket * total) / buckets;
      while (at < weighted.length - 1 && below + weighted[at].weight <= rank) below += weighted[at++].weight;
      const { value } = weighted[at];
      if (value > weighted[0].value && value !== bounds.at(-1)) bounds.push(value);
    }
    return bounds;
  }

  /** Distinct values, ascending, each with the number of values it stands for. */
  private weighted(): { value: number; weight: number }[] {
    const entries = this.distinct.map((value, place) => ({ value, weight: this.counts[place] }));
    this.levels.forEach(({ data, length }, level) => {
      for (let i = 0; i < length; i++) entries.push({ value: data[i], weight: 2 ** level });
    });
    entries.sort((a, b) => a.value - b.value);
    const merged: { value: number; weight: number }[] = [];
    for (const entry of entries) {
      const last = merged.at(-1);
      if (last !== undefined && last.value === entry.value) last.weight += entry.weight;
      else merged.push(entry);
    }
    return merged;
  }

  /** Moves the exact counts into the levels: a count is its binary digits, so that nothing is lost. */
  private approximate(): void {
    const { distinct, counts } = this;
    this.places = undefined;
    this.distinct = [];
    distinct.forEach((value, place) => {
      for (let rest = counts[place], level = 0; rest > 0; rest = Math.floor(rest / 2), level++) {
        if (rest % 2 === 1) this.push(level, value);
      }
    });
  }

  private push(index: number, value: number): void {
    while (this.levels.length <= index) this.levels.push({ data: new Float64Array(LEVEL_WIDTH), length: 0, odd: false });
    const level = this.levels[index];
    level.data[level.length++] = value;
    if (level.length < LEVEL_WIDTH) return;
    level.data.sort();
    level.length = 0;
    level.odd = !level.odd;
    this.rankError += 2 ** index;
    for (let i = level.odd ? 1 : 0; i < LEVEL_WIDTH; i += 2) this.push(index + 1, level.data[i]);
  }
}
