/** A small seeded generator (sfc32 by Chris Doty-Humphrey): the same numbers on every machine. */
export class Random {
  private spare: number | undefined;

  private constructor(
    private a: number,
    private b: number,
    private c: number,
    private counter: number,
  ) {
    for (let i = 0; i < 12; i++) this.uint32();
  }

  /** A stream of its own for every combination of keys. */
  static of(...keys: (number | string)[]): Random {
    let h1 = 0x9e3779b9;
    let h2 = 0x243f6a88;
    let h3 = 0xb7e15162;
    for (const character of JSON.stringify(keys)) {
      const code = character.codePointAt(0)!;
      h1 = Math.imul(h1 ^ code, 0x85ebca6b);
      h2 = Math.imul(h2 ^ code, 0xc2b2ae35);
      h3 = Math.imul(h3 ^ code, 0x27d4eb2f);
      h1 ^= h1 >>> 13;
      h2 ^= h2 >>> 16;
      h3 ^= h3 >>> 15;
    }
    return new Random(h1 >>> 0, h2 >>> 0, h3 >>> 0, 1);
  }

  /** 32 random bits. */
  uint32(): number {
    const t = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + t;
    return t >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  /** A whole number in [0, limit). */
  integer(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare;
      this.spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    const angle = 2 * Math.PI * this.next();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Fisher-Yates, in place. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }

  /** Fills an array with a dropout mask: 0 with probability `rate` (to 1 / 65536), otherwise 1 / (1 - rate). */
  fillDropout(mask: Float32Array, rate: number): void {
    const { runs, dropped } = keptRuns(rate);
    const keep = 1 / (1 - dropped);
    mask.fill(keep);
    const words = new Int32Array(mask.buffer, mask.byteOffset, mask.length);
    const [kept] = new Int32Array(Float32Array.of(keep).buffer);
    // uint32() with its state in local variables: masks are millions of numbers at every step.
    let { a, b, c, counter } = this;
    for (let i = 0; i < mask.length;) {
      const bits = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + bits) | 0;
      // Two runs: their bits are all of a number kept, or none. A branch would be guessed wrong too often.
      for (let half = bits, n = 0; n < 2; half >>>= 16, n++) {
        const run = runs[half & 0xffff];
        i += run >> 1;
        if (i >= mask.length) break;
        words[i] = kept & ((run & 1) - 1);
        i += run & 1;
      }
    }
    Object.assign(this, { a, b, c, counter });
  }
}

/** A run takes seven bits of a byte. */
const longestRun = 127;
const runTables = new Map<number, { runs: Uint8Array; dropped: number }>();

/**
 * How many numbers are kept before the next one is dropped, by 16 random bits: drawing that instead of each number takes as many draws as
 * there are zeros. The length is geometric, P(n) = rate (1 - rate)^n; a run past the longest in the table (one in sixteen, or in
 * fewer) is cut there, and since the distribution has no memory, the next draw goes on.
 *
 * @returns runs [65536], each 2 n + 1, or 2 n where nothing is dropped after the n; and the share that they drop
 */
function keptRuns(rate: number): { runs: Uint8Array; dropped: number } {
  const known = runTables.get(rate);
  if (known) return known;
  const outcomes = 65536;
  const longest = Math.max(1, Math.min(longestRun, Math.floor(Math.log(1 / 16) / Math.log(1 - rate))));
  const runs = new Uint8Array(outcomes).fill(2 * longest);
  let from = 0;
  let passed = 0;
  for (let length = 0; length < longest; length++) {
    const to = Math.round(outcomes * (1 - (1 - rate) ** (length + 1)));
    runs.fill(2 * length + 1, from, to);
    passed += (to - from) * (length + 1);
    from = to;
  }
  const table = { runs, dropped: from / (passed + (outcomes - from) * longest) };
  runTables.set(rate, table);
  return table;
}
