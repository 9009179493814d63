/** Lets a few requests run at once, and the others in the order in which they came; one whose signal is given while it waits leaves. */
export class RequestGate {
  #running = 0;
  /** What lets each of those that wait begin. */
  readonly #waiting = new Set<() => void>();

  constructor(private readonly atOnce: number) {}

  /** Requests that run and that wait. */
  get load(): number {
    return this.#running + this.#waiting.size;
  }

  /** Does the work of a request when its turn has come. Rejects with the signal's reason where that is given before. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#running < this.atOnce) this.#running++;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const stop = () => {
        this.#waiting.delete(begin);
        reject(signal!.reason as Error);
      };
      this.#waiting.add(begin);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** The place of one that ends is the next one's. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
