/**
 * The values of a source until the signal aborts: then its reason is thrown, also while the source keeps one waiting, and the source
 * is asked to end.
 */
export async function* abortable<T>(
  source: Iterable<T> | AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  if (signal === undefined) {
    yield* source;
    return;
  }
  signal.throwIfAborted();
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let ended = false;
  try {
    for (;;) {
      ended = true;
      const { done, value } = await nextOr(iterator, signal);
      if (done) return;
      ended = false;
      yield value;
      // While the value was in use: a listener added to an aborted signal would never be called.
      signal.throwIfAborted();
    }
  } finally {
    if (signal.aborted) void close(iterator).catch(() => undefined);
    else if (!ended) await close(iterator);
  }
}

type Source<T> = Iterator<T, void, undefined> | AsyncIterator<T, void, undefined>;

/** A listener for every value: promises of one that were raced with each value would keep them all. */
function nextOr<T>(iterator: Source<T>, signal: AbortSignal): Promise<IteratorResult<T, void>> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    const next = async (): Promise<IteratorResult<T, void>> => iterator.next();
    void next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', stop));
  });
}

async function close<T>(iterator: Source<T>): Promise<void> {
  await iterator.return?.();
}
