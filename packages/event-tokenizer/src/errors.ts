import type { Rejection, RejectionKind } from './columns.js';

const PACKAGE = '@user-llm/event-tokenizer';

function marked(error: unknown, marker: symbol): boolean {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
}

const SCHEMA = Symbol.for(`${PACKAGE}.SchemaError`);
/** A schema or an option that cannot work. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
  readonly [SCHEMA] = true;
  /** Where in the schema or options, for example `fields.rating.buckets`. */
  readonly path: string;
  constructor(path: string, problem: string) {
    super(`${path ? `${path}: ` : ''}${problem}`);
    this.path = path;
  }
  static isInstance(error: unknown): error is SchemaError {
    return marked(error, SCHEMA);
  }
}

const ROW = Symbol.for(`${PACKAGE}.RowError`);
/** A row that a `throw` policy (or `strict`) refuses. */
export class RowError extends Error implements Rejection {
  override readonly name = 'RowError';
  readonly [ROW] = true;
  readonly line: number;
  readonly field: string;
  readonly kind: RejectionKind;
  readonly reason: string;
  constructor({ line, field, kind, reason }: Rejection) {
    super(
      `line ${line}${field ? `, column "${field}"` : ''}: ${reason}. ` +
        'Correct the row, or leave out strict so that such rows follow the default policy.',
    );
    this.line = line;
    this.field = field;
    this.kind = kind;
    this.reason = reason;
  }
  static isInstance(error: unknown): error is RowError {
    return marked(error, ROW);
  }
}

const EMPTY_LOG = Symbol.for(`${PACKAGE}.EmptyLogError`);
/** Fitting found no usable row. */
export class EmptyLogError extends Error {
  override readonly name = 'EmptyLogError';
  readonly [EMPTY_LOG] = true;
  readonly rows: number;
  readonly first: Rejection | undefined;
  constructor(rows: number, first?: Rejection) {
    super(
      first === undefined
        ? 'There is no row to fit a tokenizer to. Check that the source is the event log and is not empty.'
        : `None of the ${rows} rows is usable; the first, line ${first.line}${first.field ? `, column "${first.field}"` : ''}: ` +
            `${first.reason}. Check the schema's column names and the time unit against the file.`,
    );
    this.rows = rows;
    this.first = first;
  }
  static isInstance(error: unknown): error is EmptyLogError {
    return marked(error, EMPTY_LOG);
  }
}

const MISSING_COLUMN = Symbol.for(`${PACKAGE}.MissingColumnError`);
/** The schema names a column that no row has. */
export class MissingColumnError extends Error {
  override readonly name = 'MissingColumnError';
  readonly [MISSING_COLUMN] = true;
  readonly field: string;
  readonly column: string;
  readonly available: readonly string[];
  constructor(field: string, column: string, available: readonly string[]) {
    super(
      `No row has the column "${column}" that the schema reads for "${field}". ` +
        `The rows have: ${available.map((name) => `"${name}"`).join(', ') || 'no columns'}. Name one of these in the schema.`,
    );
    this.field = field;
    this.column = column;
    this.available = available;
  }
  static isInstance(error: unknown): error is MissingColumnError {
    return marked(error, MISSING_COLUMN);
  }
}

const EMPTY_VOCABULARY = Symbol.for(`${PACKAGE}.EmptyVocabularyError`);
/** The minimum count leaves no item. */
export class EmptyVocabularyError extends Error {
  override readonly name = 'EmptyVocabularyError';
  readonly [EMPTY_VOCABULARY] = true;
  readonly field: string;
  readonly distinct: number;
  readonly minCount: number;
  constructor(field: string, distinct: number, minCount: number) {
    super(
      `None of the ${distinct} values of "${field}" occurs ${minCount} times or more, so that every item would be unknown. Lower minCount.`,
    );
    this.field = field;
    this.distinct = distinct;
    this.minCount = minCount;
  }
  static isInstance(error: unknown): error is EmptyVocabularyError {
    return marked(error, EMPTY_VOCABULARY);
  }
}

const UNKNOWN_FIELD = Symbol.for(`${PACKAGE}.UnknownFieldError`);
/** A field that the tokenizer does not have, or that has no vocabulary. */
export class UnknownFieldError extends Error {
  override readonly name = 'UnknownFieldError';
  readonly [UNKNOWN_FIELD] = true;
  readonly field: string;
  constructor(field: string, available: readonly string[]) {
    super(
      `There is no field "${field}" with a vocabulary. Those with one are: ${available.map((name) => `"${name}"`).join(', ')}.`,
    );
    this.field = field;
  }
  static isInstance(error: unknown): error is UnknownFieldError {
    return marked(error, UNKNOWN_FIELD);
  }
}

const UNKNOWN_USER = Symbol.for(`${PACKAGE}.UnknownUserError`);
/** A user that the columns do not hold. */
export class UnknownUserError extends Error {
  override readonly name = 'UnknownUserError';
  readonly [UNKNOWN_USER] = true;
  readonly user: string | number;
  constructor(user: string | number, users: number) {
    super(
      typeof user === 'number'
        ? `There is no user at index ${user}: there are ${users} users.`
        : `No event belongs to the user "${user}". Look users up with userIndex(events) first.`,
    );
    this.user = user;
  }
  static isInstance(error: unknown): error is UnknownUserError {
    return marked(error, UNKNOWN_USER);
  }
}

/** Said of rows, of a promise, and of whatever else stands where columns are expected. */
export const NO_COLUMNS = 'These are no encoded events. Encode the rows first: await tokenizer.encode(rows).';

const MISMATCH = Symbol.for(`${PACKAGE}.TokenizerMismatchError`);
/** Columns of one tokenizer given where another's are expected. */
export class TokenizerMismatchError extends Error {
  override readonly name = 'TokenizerMismatchError';
  readonly [MISMATCH] = true;
  readonly expected: string;
  readonly found: string;
  constructor(expected: string, found: string) {
    super(
      typeof (found as unknown) !== 'string'
        ? NO_COLUMNS
        : `These events were encoded by the tokenizer ${found.slice(0, 12)}, not by ${expected.slice(0, 12)}: their ids mean other values. ` +
            'Encode the rows again with one tokenizer.',
    );
    this.expected = expected;
    this.found = found;
  }
  static isInstance(error: unknown): error is TokenizerMismatchError {
    return marked(error, MISMATCH);
  }
}

const FORMAT = Symbol.for(`${PACKAGE}.TokenizerFormatError`);
/** A file or object that is not a saved tokenizer. */
export class TokenizerFormatError extends Error {
  override readonly name = 'TokenizerFormatError';
  readonly [FORMAT] = true;
  readonly source: string;
  readonly problem: string;
  constructor(source: string, problem: string) {
    super(`${source} is not a saved tokenizer: ${problem}. Give a file that EventTokenizer.save wrote, or fit a new tokenizer.`);
    this.source = source;
    this.problem = problem;
  }
  static isInstance(error: unknown): error is TokenizerFormatError {
    return marked(error, FORMAT);
  }
}

const VERSION = Symbol.for(`${PACKAGE}.TokenizerVersionError`);
/** A tokenizer that a newer release wrote. */
export class TokenizerVersionError extends Error {
  override readonly name = 'TokenizerVersionError';
  readonly [VERSION] = true;
  readonly source: string;
  readonly found: number;
  readonly supported: number;
  constructor(source: string, found: number, supported: number) {
    super(`${source} has format version ${found}; this release reads up to ${supported}. Update ${PACKAGE}.`);
    this.source = source;
    this.found = found;
    this.supported = supported;
  }
  static isInstance(error: unknown): error is TokenizerVersionError {
    return marked(error, VERSION);
  }
}

const HASH = Symbol.for(`${PACKAGE}.TokenizerHashError`);
/** A saved tokenizer whose content is not what its hash says. */
export class TokenizerHashError extends Error {
  override readonly name = 'TokenizerHashError';
  readonly [HASH] = true;
  readonly source: string;
  readonly expected: string;
  readonly found: string;
  constructor(source: string, expected: string, found: string) {
    super(
      `${source} was changed or damaged after it was saved: it says ${expected.slice(0, 12)} and holds ${found.slice(0, 12)}. ` +
        'Restore the file, or fit a new tokenizer.',
    );
    this.source = source;
    this.expected = expected;
    this.found = found;
  }
  static isInstance(error: unknown): error is TokenizerHashError {
    return marked(error, HASH);
  }
}

const EMBEDDER = Symbol.for(`${PACKAGE}.TextEmbedderError`);
/** A text function that is absent, another than at fitting, or gave the wrong shape. */
export class TextEmbedderError extends Error {
  override readonly name = 'TextEmbedderError';
  readonly [EMBEDDER] = true;
  readonly field: string;
  constructor(field: string, problem: string) {
    super(`The text field "${field}": ${problem}`);
    this.field = field;
  }
  static isInstance(error: unknown): error is TextEmbedderError {
    return marked(error, EMBEDDER);
  }
}

const FOLDER = Symbol.for(`${PACKAGE}.ColumnFolderError`);
/** A folder that holds no finished columns, or damaged ones, or that was closed. */
export class ColumnFolderError extends Error {
  override readonly name = 'ColumnFolderError';
  readonly [FOLDER] = true;
  readonly folder: string;
  readonly problem: string;
  constructor(folder: string, problem: string, advice = 'Give a folder that ColumnFolder.write finished, or write it again.') {
    super(`${folder} cannot be read as event columns: ${problem}. ${advice}`);
    this.folder = folder;
    this.problem = problem;
  }
  static isInstance(error: unknown): error is ColumnFolderError {
    return marked(error, FOLDER);
  }
}
