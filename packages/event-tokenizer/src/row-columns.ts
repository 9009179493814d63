import type { Row } from './columns.js';
import { SchemaError } from './errors.js';

/** A reader may leave a row's 1-based line in its file under this key; without it a row's number counts. */
export const sourceLine: unique symbol = Symbol.for('@user-llm/source-line') as never;

/** A reader may pass on a row that it could not take apart, with the reason under this key: the row is rejected with that reason. */
export const malformedRow: unique symbol = Symbol.for('@user-llm/malformed') as never;

const ROW_COLUMNS = Symbol.for('@user-llm/event-tokenizer.RowColumns');

/** What {@link RowColumns} is made of. */
export interface RowColumnsInit {
  /** How many rows. */
  readonly length: number;
  /** [length] each, by column name; `undefined` where a row lacks the column. */
  readonly columns: Readonly<Record<string, readonly unknown[]>>;
  /** [length] The 1-based line of each row in its file; without it a row's number counts. */
  readonly lines?: ArrayLike<number>;
  /** Why a row could not be taken apart, by its index: it is rejected with that reason. */
  readonly problems?: ReadonlyMap<number, string>;
}

/**
 * Raw rows column by column: what a reader that knows its columns hands over, so that no object is made for a row. The arrays are
 * not copied and must not change afterwards.
 *
 * @throws SchemaError for a column of another length
 */
export class RowColumns implements Iterable<Row> {
  readonly [ROW_COLUMNS] = true;
  readonly length: number;
  readonly lines: ArrayLike<number> | undefined;
  readonly problems: ReadonlyMap<number, string> | undefined;
  private readonly columns: ReadonlyMap<string, readonly unknown[]>;

  constructor({ length, columns, lines, problems }: RowColumnsInit) {
    this.length = length;
    this.lines = lines;
    this.problems = problems?.size ? problems : undefined;
    this.columns = new Map(Object.entries(columns));
    for (const [name, values] of this.columns) checkLength(`columns.${name}`, values.length, length);
    if (lines !== undefined) checkLength('lines', lines.length, length);
  }

  static isInstance(value: unknown): value is RowColumns {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[ROW_COLUMNS] === true;
  }

  /** Names of the columns. */
  get names(): string[] {
    return [...this.columns.keys()];
  }

  /** [length] The values of one column; undefined when there is no such column. */
  column(name: string): readonly unknown[] | undefined {
    return this.columns.get(name);
  }

  /** One row as an object, with its line and its problem under {@link sourceLine} and {@link malformedRow}. */
  row(i: number): Row {
    const row: Row = {};
    if (this.lines !== undefined) Object.assign(row, { [sourceLine]: this.lines[i] });
    const problem = this.problems?.get(i);
    if (problem !== undefined) return Object.assign(row, { [malformedRow]: problem });
    for (const [name, values] of this.columns) if (values[i] !== undefined) row[name] = values[i];
    return row;
  }

  *[Symbol.iterator](): Iterator<Row> {
    for (let i = 0; i < this.length; i++) yield this.row(i);
  }
}

function checkLength(path: string, found: number, expected: number): void {
  if (found !== expected) throw new SchemaError(path, `it has ${found} values for ${expected} rows. Give one value per row.`);
}
