import type { Row } from './columns.js';
import { SchemaError } from './errors.js';
import { malformedRow, RowColumns, sourceLine } from './row-columns.js';
import { show } from './values.js';

/**
 * What a source gives: a row, a list of rows (faster for an asynchronous source), or rows column by column (no object per row). A row is any
 * object: an interface, which has no index signature, is no {@link Row}.
 */
export type RowEntry = object | readonly object[] | RowColumns;

/** Rows, one at a time, in lists, or column by column. */
export type RowSource = Iterable<RowEntry> | AsyncIterable<RowEntry>;

/** A source, or a function that opens one at its first row. */
export type Rows = RowSource | (() => RowSource);

/** Rows per batch: long enough for tight loops over one column, short enough to stay in the cache. */
export const BATCH_ROWS = 1024;

/** Up to {@link BATCH_ROWS} rows, read column by column; the object is reused for the next batch. */
export class RowBatch {
  count = 0;
  /** Rows read before this batch. */
  before = 0;
  private readonly rows: Row[] = [];
  /** Instead of `rows`: the batch is the rows from `start` on. */
  private block: RowColumns | undefined;
  private start = 0;
  private readonly transposed = new Map<string, unknown[]>();

  /** Adds a row; true when the batch is full. */
  push(row: Row): boolean {
    this.rows[this.count++] = row;
    return this.count === BATCH_ROWS;
  }

  view(block: RowColumns, start: number, count: number): void {
    this.block = block;
    this.start = start;
    this.count = count;
  }

  next(): void {
    this.before += this.count;
    this.count = 0;
    this.block = undefined;
  }

  /** The values of one column by row, at least `count` of them; reused at the next call for the same column. */
  values(column: string): readonly unknown[] {
    const { block, rows, count } = this;
    let values = this.transposed.get(column);
    if (values === undefined) {
      values = new Array<unknown>(BATCH_ROWS).fill(undefined);
      this.transposed.set(column, values);
    }
    if (block === undefined) for (let i = 0; i < count; i++) values[i] = rows[i][column];
    else {
      const source = block.column(column);
      if (source !== undefined) return source.slice(this.start, this.start + count);
      values.fill(undefined);
    }
    return values;
  }

  /** The line of row `i`. */
  line(i: number): number {
    const { block } = this;
    const line: unknown =
      block === undefined ? (this.rows[i] as Record<symbol, unknown>)[sourceLine] : block.lines?.[this.start + i];
    return typeof line === 'number' ? line : this.before + i + 1;
  }

  /** Calls `visit` with the rows that no field can be read of. */
  problems(visit: (i: number, problem: string) => void): void {
    const { block, rows, count, start } = this;
    if (block !== undefined) {
      if (block.problems === undefined) return;
      for (const [i, problem] of block.problems) if (i >= start && i < start + count) visit(i - start, problem);
      return;
    }
    for (let i = 0; i < count; i++) {
      const row: unknown = rows[i];
      if (typeof row !== 'object' || row === null) {
        visit(i, 'the row is not an object');
        rows[i] = NO_ROW;
        continue;
      }
      const problem = (row as Record<symbol, unknown>)[malformedRow];
      if (problem !== undefined) visit(i, String(problem));
    }
  }

  /** Names of all columns that a row has. */
  names(): Set<string> {
    if (this.block !== undefined) return new Set(this.block.names);
    const names = new Set<string>();
    for (let i = 0; i < this.count; i++) for (const name of Object.keys(this.rows[i])) names.add(name);
    return names;
  }
}

const NO_ROW: Row = Object.freeze({});

const isList = (entry: RowEntry): entry is readonly Row[] => Array.isArray(entry);

function requireRows(source: unknown): void {
  if (typeof source === 'object' && source !== null && (Symbol.asyncIterator in source || Symbol.iterator in source)) return;
  if (source instanceof Promise) throw new SchemaError('rows', 'a promise gives no rows. Await it first.');
  // Most likely a file's content or its path. None of it is told: it may be about users.
  if (typeof source === 'string')
    throw new SchemaError('rows', 'a text gives no rows. Read the file with openDataset of @user-llm/datasets, or parse it.');
  const hint = 'Give a list of rows, an iterable of them, or a function that returns one.';
  throw new SchemaError('rows', `${show(source)} gives no rows. ${hint}`);
}

/** Hands the rows of a source to `consume`, batch by batch. A failure or an abort closes the source. */
export async function forEachBatch(
  source: Rows,
  consume: (batch: RowBatch) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const opened = typeof source === 'function' ? source() : source;
  requireRows(opened);
  const batch = new RowBatch();
  /** A promise only where there is something to wait for. */
  const flush = (): void | Promise<void> => {
    signal?.throwIfAborted();
    if (batch.count === 0) return;
    const consumed = consume(batch);
    if (consumed !== undefined) return consumed.then(() => batch.next());
    batch.next();
  };
  const takeAll = async (rows: readonly Row[]) => {
    for (let i = 0; i < rows.length; i++) {
      if (!batch.push(rows[i])) continue;
      const flushed = flush();
      if (flushed !== undefined) await flushed;
    }
  };
  const takeColumns = async (block: RowColumns) => {
    await flush();
    for (let start = 0; start < block.length; start += BATCH_ROWS) {
      batch.view(block, start, Math.min(BATCH_ROWS, block.length - start));
      const flushed = flush();
      if (flushed !== undefined) await flushed;
    }
  };
  await flush();
  // Two loops: `for await` would wait after every row of a synchronous source too.
  if (Symbol.asyncIterator in opened) {
    for await (const entry of opened) {
      if (isList(entry)) await takeAll(entry);
      else if (RowColumns.isInstance(entry)) await takeColumns(entry);
      else if (batch.push(entry as Row)) await flush();
    }
  } else {
    for (const entry of opened) {
      if (isList(entry)) await takeAll(entry);
      else if (RowColumns.isInstance(entry)) await takeColumns(entry);
      else if (batch.push(entry as Row)) await flush();
    }
  }
  await flush();
}
