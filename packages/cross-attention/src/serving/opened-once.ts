/**
 * Something that is opened when it is first asked for, and once. Where that fails the next call tries again; once it is open, what opening
 * it took (a model's bytes, say) is let go.
 */
export class OpenedOnce<T> {
  #open: (() => Promise<T>) | undefined;
  #opened: Promise<T> | undefined;

  constructor(open: () => Promise<T>) {
    this.#open = open;
  }

  get(): Promise<T> {
    this.#opened ??= this.#open!().then(
      (opened) => {
        this.#open = undefined;
        return opened;
      },
      (error: unknown) => {
        this.#opened = undefined;
        throw error;
      },
    );
    return this.#opened;
  }

  /** What is to be closed: undefined where nobody asked for it. A failure to open it is the error of those who asked, and not of this. */
  async opened(): Promise<T | undefined> {
    return this.#opened?.catch(() => undefined);
  }
}
