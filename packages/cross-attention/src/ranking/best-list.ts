/**
 * The best `capacity` entries seen so far: higher scores first, equal scores by the smaller tie breaker. A heap with the worst entry on
 * top, in two arrays.
 */
export class BestList {
  readonly #scores: Float64Array;
  readonly #ties: Int32Array;
  readonly #payloads: Int32Array;
  #size = 0;

  constructor(readonly capacity: number) {
    this.#scores = new Float64Array(capacity);
    this.#ties = new Int32Array(capacity);
    this.#payloads = new Int32Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** The score that an entry must reach to get in; -Infinity while there is room. */
  get threshold(): number {
    return this.#size < this.capacity || this.capacity === 0 ? -Infinity : this.#scores[0];
  }

  /** Takes an entry in, if it is good enough. */
  add(score: number, tie: number, payload: number): void {
    if (this.#size < this.capacity) {
      this.#up(this.#size++, score, tie, payload);
    } else if (this.capacity > 0 && this.#isWorse(0, score, tie)) {
      this.#down(0, score, tie, payload);
    }
  }

  /** All entries, the best first. */
  sorted(): { score: number; tie: number; payload: number }[] {
    return Array.from({ length: this.#size }, (_, i) => ({
      score: this.#scores[i],
      tie: this.#ties[i],
      payload: this.#payloads[i],
    })).sort((a, b) => b.score - a.score || a.tie - b.tie);
  }

  /** Whether the entry at a place ranks below the given one. */
  #isWorse(at: number, score: number, tie: number): boolean {
    return this.#scores[at] !== score ? this.#scores[at] < score : this.#ties[at] > tie;
  }

  #set(at: number, score: number, tie: number, payload: number): void {
    this.#scores[at] = score;
    this.#ties[at] = tie;
    this.#payloads[at] = payload;
  }

  #copy(to: number, from: number): void {
    this.#set(to, this.#scores[from], this.#ties[from], this.#payloads[from]);
  }

  #up(at: number, score: number, tie: number, payload: number): void {
    while (at > 0) {
      const parent = (at - 1) >> 1;
      // The worse one belongs on top.
      if (this.#isWorse(parent, score, tie)) break;
      this.#copy(at, parent);
      at = parent;
    }
    this.#set(at, score, tie, payload);
  }

  #down(at: number, score: number, tie: number, payload: number): void {
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#isWorse(child + 1, this.#scores[child], this.#ties[child])) child++;
      if (!this.#isWorse(child, score, tie)) break;
      this.#copy(at, child);
      at = child;
    }
    this.#set(at, score, tie, payload);
  }
}
