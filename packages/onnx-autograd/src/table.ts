import { ShapeError } from './errors.js';
import type { InputInfo, ParameterInfo } from './graph-builder.js';
import type { Tensor } from './tensor.js';

/** A table of a training graph, which holds the rows that one step touches. */
export interface TableInfo extends ParameterInfo {
  /** [all rows, width] */
  readonly shape: readonly [number, number];
  /** The rows of one step, [axis, width]. */
  readonly tensor: Tensor;
  /** The named axis of those rows. */
  readonly axis: string;
  /** By the name of the input that holds ids: the input that holds where those rows are in `tensor`. */
  readonly lookups: ReadonlyMap<string, InputInfo>;
}

/**
 * A weight of so many rows (a million items) that a training step reads and changes only those that its feeds name. Made by
 * `builder.table`. In a graph that serves it is a parameter like any other.
 */
export class Table {
  /** @param lookup from an input of ids to the positions of their rows in `source` */
  constructor(
    private readonly source: Tensor,
    private readonly lookup: (ids: Tensor) => Tensor,
  ) {}

  /**
   * Rows by id.
   *
   * @param ids any shape, int32. In a training graph it must be an input: which rows a step touches is known before its graph runs.
   * @returns [...ids, width]
   */
  gather(ids: Tensor): Tensor {
    return this.source.gather(this.lookup(ids));
  }
}

/** Ids of a table's rows, as a training graph can take them. */
export function checkIds(table: string, ids: Tensor, input: InputInfo | undefined): string {
  if (input?.tensor !== ids || ids.dtype !== 'int32')
    throw new ShapeError(
      'table.gather',
      [ids],
      `rows of the table '${table}' are found by an int32 input of the graph, and this is ${input?.tensor === ids ? ids.dtype : 'computed'}; gather by the input, and reshape or mask what comes out`,
    );
  return input.name;
}
