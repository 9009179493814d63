import type { EventSchema, RowColumns } from '@user-llm/event-tokenizer';

/** One event, normalised: `user` and `item` are strings, `time` is seconds since 1970 or an order, `rating` a number. */
export type Row = Record<string, unknown>;

/** One item of the catalogue. */
export interface Item {
  /** The same string as in the events' `item`. */
  id: string;
  title: string;
  /** Genres or product categories, in the source's order; empty when the source has none. */
  categories: string[];
  [more: string]: unknown;
}

/** What the events' `time` means: seconds since 1970, or only the rank of an event in its user's history. */
export type TimeUnit = 's' | 'order';

/** A file that was read, by its name (never its folder), so that a result can be traced to the bytes it came from. */
export interface SourceFile {
  name: string;
  bytes: number;
  /** Of the bytes as stored (compressed files are not unpacked for it); `null` when `openDataset` was told not to compute it. */
  sha256: string | null;
}

export interface Provenance {
  source: string;
  licence: string;
  files: SourceFile[];
  /** What a reader of the results should know, such as a field that is not what its name says. */
  notes: string[];
}

/** Where a row was read: rows carry it under the key {@link sourceLine}, which `JSON.stringify` and `Object.keys` do not show. */
export const sourceLine: unique symbol = Symbol.for('@user-llm/source-line') as never;

/** Why a row could not be read (too few fields, no JSON): the row is passed on, so that whoever reads it can count and quote it. */
export const malformed: unique symbol = Symbol.for('@user-llm/malformed') as never;

/** The line (from 1; for Parquet the row) of a row in its file, or `undefined` for a row that no reader of this package made. */
export function lineOf(row: Row): number | undefined {
  return (row as Record<symbol, unknown>)[sourceLine] as number | undefined;
}

/** Why a reader could not take this line apart, or `undefined` when it could. */
export function problemOf(row: Row): string | undefined {
  return (row as Record<symbol, unknown>)[malformed] as string | undefined;
}

/** A data set: every `for await` over one of its streams starts from the first row again, and holds only a block of it in memory. */
export interface Dataset {
  name: string;
  /** True for invented data; nothing measured on it says anything about people. */
  simulated: boolean;
  /** Which layout was found, such as `movielens-1m` or `csv`. */
  layout: string;
  /** What `time` means in the events. */
  time: { unit: TimeUnit };
  /** In the files' order: sorted neither by user nor by time. */
  events: AsyncIterable<Row>;
  /** The same events in lists of a few hundred to a few thousand: several times faster to read. */
  eventBatches: AsyncIterable<Row[]>;
  /**
   * The same events in the form that is fastest to read: column by column where the source has it, lists otherwise. Give it to
   * `EventTokenizer.fit` and `encode` as it is.
   */
  eventBlocks: AsyncIterable<Row[] | RowColumns>;
  /** Absent where the source has no file of items and no column of their titles or categories. */
  items?: AsyncIterable<Item>;
  users?: AsyncIterable<Row>;
  /** A schema for `EventTokenizer.fit` that fits these events. */
  schema: EventSchema;
  provenance: Provenance;
}
