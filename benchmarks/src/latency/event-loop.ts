/** Watches how long this thread's event loop is held up. */
export class EventLoopWatch {
  #longest = 0;
  #last = performance.now();
  readonly #timer = setInterval(() => {
    const now = performance.now();
    this.#longest = Math.max(this.#longest, now - this.#last);
    this.#last = now;
  }, 1);

  /** Ends it; the longest time between two turns, in milliseconds. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#longest;
  }
}
