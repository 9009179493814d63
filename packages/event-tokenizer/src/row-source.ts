import type { Row } from './columns.js';

/** Rows, one at a time or in lists (faster for an asynchronous source). */
export type RowSource = Iterable<Row | readonly Row[]> | AsyncIterable<Row | readonly Row[]>;

/** A source, or a function that opens one at its first row. */
export type Rows = RowSource | (() => RowSource);

/** A reader may leave a row's 1-based line in its file under this key; without it a row's number counts. */
export const sourceLine: unique symbol = Symbol.for('@user-llm/source-line') as never;

/** A reader may pass on a row that it could not take apart, with the reason under this key: the row is rejected with that reason. */
export const malformedRow: unique symbol = Symbol.for('@user-llm/malformed') as never;

/** Rows per batch: long enough for tight loops over one column, short enough to stay in the cache. */
export const BATCH_ROWS = 1024;

/** Up to {@link BATCH_ROWS} rows; `rows` is reused for the next batch. */
export interface RowBatch {
  readonly rows: Row[];
  count: number;
  /** Rows read before this batch. */
  before: number;
}

/** The line of row `i` of a batch. */
export function lineOf(batch: RowBatch, i: number): number {
  const row: unknown = batch.rows[i];
  const line = typeof row === 'object' && row !== null ? (row as Record<symbol, unknown>)[sourceLine] : undefined;
  return typeof line === 'number' ? line : batch.before + i + 1;
}

const isList = (entry: Row | readonly Row[]): entry is readonly Row[] => Array.isArray(entry);

/** Hands the rows of a source to `consume`, batch by batch. A failure or an abort closes the source. */
export async function forEachBatch(
  source: Rows,
  consume: (batch: RowBatch) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const opened = typeof source === 'function' ? source() : source;
  const batch: RowBatch = { rows: [], count: 0, before: 0 };
  const flush = async () => {
    signal?.throwIfAborted();
    if (batch.count === 0) return;
    await consume(batch);
    batch.before += batch.count;
    batch.count = 0;
  };
  /** Whether the batch is full. */
  const take = (row: Row): boolean => {
    batch.rows[batch.count++] = row;
    return batch.count === BATCH_ROWS;
  };
  const takeAll = async (rows: readonly Row[]) => {
    for (const row of rows) if (take(row)) await flush();
  };
  await flush();
  // Two loops: `for await` would wait after every row of a synchronous source too.
  if (Symbol.asyncIterator in opened) {
    for await (const entry of opened) {
      if (isList(entry)) await takeAll(entry);
      else if (take(entry)) await flush();
    }
  } else {
    for (const entry of opened) {
      if (isList(entry)) await takeAll(entry);
      else if (take(entry)) await flush();
    }
  }
  await flush();
}
