/** One raw event: column name to value. */
export type Row = Record<string, unknown>;

/** Why a row was refused. */
export type RejectionKind = 'malformed' | 'unknown-item' | 'out-of-order' | 'duplicate';

/** A row that did not become an event. */
export interface Rejection {
  /** 1-based line that the source reported, or the row's number when it reported none. */
  readonly line: number;
  /** Column of the row that was at fault; empty when the whole row was. */
  readonly field: string;
  readonly kind: RejectionKind;
  readonly reason: string;
}

/** Ids of one value per event, shape [N]. */
export interface CategoricalColumn {
  readonly kind: 'categorical';
  readonly ids: Int32Array;
}

/** A bag of ids per event: event `e` owns `ids[offsets[e] .. offsets[e + 1])`, never empty (a missing bag holds the missing id). */
export interface CategoriesColumn {
  readonly kind: 'categories';
  /** [N + 1] */
  readonly offsets: Int32Array;
  readonly ids: Int32Array;
}

/** Quantile bucket and standardised scalar (always finite) per event, both [N]; a missing number is the missing id and the scalar 0. */
export interface NumberColumn {
  readonly kind: 'number';
  readonly ids: Int32Array;
  readonly values: Float32Array;
}

/** Time features per event, all [N]. `gap` is the log-scale bucket of the seconds since the same user's previous event. */
export interface TimeColumn {
  readonly kind: 'time';
  readonly gap: Int32Array;
  readonly hour: Int32Array;
  readonly weekday: Int32Array;
}

/** One vector per event, row-major [N, width]; a missing text is the zero vector. */
export interface TextColumn {
  readonly kind: 'text';
  readonly width: number;
  readonly vectors: Float32Array;
}

export type Column = CategoricalColumn | CategoriesColumn | NumberColumn | TimeColumn | TextColumn;

/**
 * Events of U users, column by column. User `u` owns the events `offsets[u] .. offsets[u + 1]`, oldest first; N = `offsets[U]`.
 */
export interface EventColumns {
  /** Hash of the tokenizer that made these ids. */
  readonly tokenizer: string;
  /** [U], in order of first appearance. */
  readonly users: string[];
  /** [U + 1] */
  readonly offsets: Int32Array;
  /** [N] Unix seconds (the order itself where the schema's unit is `order`), NaN where unknown. */
  readonly times: Float64Array;
  /** By the schema's field names, and `time` where the schema has a time. */
  readonly fields: Record<string, Column>;
  /** The first rejected rows by line (see `EncodeOptions.maxRejections`); the counts say how many there were in all. */
  readonly rejected: Rejection[];
}

/** What happened to the rows of one encoding. `rows = events + rejected`. */
export interface EncodeCounts {
  rows: number;
  events: number;
  rejected: number;
  /** Events that came after a later event of the same user. */
  outOfOrder: number;
  /** Events that repeat the user, time and item of an earlier row. */
  duplicates: number;
  /** Events whose item is not in the vocabulary. */
  unknownItems: number;
}

/** The result of `EventTokenizer.encode`. */
export interface EncodedEvents extends EventColumns {
  readonly counts: EncodeCounts;
}
