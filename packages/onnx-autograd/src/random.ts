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

  /** Fills an array with a dropout mask: 0 with probability `rate`, otherwise 1 / (1 - rate). */
  fillDropout(mask: Float32Array, rate: number): void {
    const threshold = Math.round(rate * 65536);
    const keep = 65536 / (65536 - threshold);
    const even = mask.length & ~1;
    const words = new Int32Array(mask.buffer, mask.byteOffset, mask.length);
    const [kept] = new Int32Array(Float32Array.of(keep).buffer);
    // uint32() with its state in local variables: masks are millions of numbers at every step.
    let { a, b, c, counter } = this;
    for (let i = 0; i < even; i += 2) {
      const bits = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + bits) | 0;
      // All bits where the number is kept, none where the difference is negative: a branch would be guessed wrong too often.
      words[i] = kept & ~(((bits & 0xffff) - threshold) >> 31);
      words[i + 1] = kept & ~(((bits >>> 16) - threshold) >> 31);
    }
    Object.assign(this, { a, b, c, counter });
    if (even < mask.length) mask[even] = this.uint32() >>> 16 < threshold ? 0 : keep;
  }
}
