type Link<P> = { readonly value: P; readonly next: Promise<Link<P>> } | null;

/**
 * Something long that has begun: its `result`, and its progress from the beginning for whoever iterates (watching is optional, and
 * possible more than once). Leaving the loop does not stop it; an `AbortSignal` does.
 */
export class Run<Progress, Result> implements AsyncIterable<Progress> {
  readonly result: Promise<Result>;
  readonly #head: Promise<Link<Progress>>;
  #tail: Promise<Link<Progress>>;
  #resolve!: (link: Link<Progress> | Promise<never>) => void;

  constructor(work: (emit: (progress: Progress) => void) => Promise<Result>) {
    this.#head = this.#tail = new Promise((resolve) => (this.#resolve = resolve));
    const emit = (value: Progress) => {
      const resolve = this.#resolve;
      this.#tail = new Promise((next) => (this.#resolve = next));
      resolve({ value, next: this.#tail });
    };
    // Begins after the caller had a chance to iterate.
    this.result = Promise.resolve().then(() => work(emit));
    this.result.then(
      () => this.#resolve(null),
      (error: unknown) => {
        const failed = Promise.reject<never>(error);
        // Not everybody watches, and not everybody awaits the result: neither must crash the process.
        failed.catch(() => undefined);
        this.#tail.catch(() => undefined);
        this.#resolve(failed);
      },
    );
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, undefined> {
    for (let link = await this.#head; link !== null; link = await link.next) yield link.value;
  }
}
