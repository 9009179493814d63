/** A stream that can be read more than once: every `for await` calls `open` again. */
export function stream<T>(open: () => AsyncIterator<T>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: open };
}

/** The rows of a stream of lists, one at a time. */
export function flatten<T>(batches: AsyncIterable<readonly T[]>): AsyncIterable<T> {
  return stream(async function* () {
    for await (const batch of batches) yield* batch;
  });
}
