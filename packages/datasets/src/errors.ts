const ERROR: unique symbol = Symbol.for('@user-llm/datasets/error') as never;
const INVALID_OPTION: unique symbol = Symbol.for('@user-llm/datasets/invalid-option') as never;
const PATH_NOT_FOUND: unique symbol = Symbol.for('@user-llm/datasets/path-not-found') as never;
const EMPTY_FILE: unique symbol = Symbol.for('@user-llm/datasets/empty-file') as never;
const MISSING_COLUMN: unique symbol = Symbol.for('@user-llm/datasets/missing-column') as never;
const BINARY_FILE: unique symbol = Symbol.for('@user-llm/datasets/binary-file') as never;
const DAMAGED_FILE: unique symbol = Symbol.for('@user-llm/datasets/damaged-file') as never;
const UNKNOWN_LAYOUT: unique symbol = Symbol.for('@user-llm/datasets/unknown-layout') as never;
const DOWNLOAD: unique symbol = Symbol.for('@user-llm/datasets/download') as never;
const CHECKSUM: unique symbol = Symbol.for('@user-llm/datasets/checksum') as never;

/** All errors of this package: `DatasetError.isInstance(error)` holds across duplicate installs. */
export abstract class DatasetError extends Error {
  readonly [ERROR] = true;

  static isInstance(error: unknown): error is DatasetError {
    return marked(error, ERROR);
  }
}

function marked(error: unknown, marker: symbol): boolean {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
}

/** An option has a value that cannot work. */
export class InvalidOptionError extends DatasetError {
  override readonly name = 'InvalidOptionError';
  readonly [INVALID_OPTION] = true;

  constructor(
    readonly option: string,
    readonly value: unknown,
    readonly wanted: string,
  ) {
    super(`${option} is ${JSON.stringify(value) ?? String(value)}: it must be ${wanted}.`);
  }

  static override isInstance(error: unknown): error is InvalidOptionError {
    return marked(error, INVALID_OPTION);
  }
}

/** There is nothing at the path. */
export class PathNotFoundError extends DatasetError {
  override readonly name = 'PathNotFoundError';
  readonly [PATH_NOT_FOUND] = true;

  constructor(readonly path: string) {
    super(`There is no file or folder ${path}. Check the spelling, or fetch an official archive with download().`);
  }

  static override isInstance(error: unknown): error is PathNotFoundError {
    return marked(error, PATH_NOT_FOUND);
  }
}

/** The file has no rows. */
export class EmptyFileError extends DatasetError {
  override readonly name = 'EmptyFileError';
  readonly [EMPTY_FILE] = true;

  constructor(readonly file: string) {
    super(`${file} holds no rows. Was its download cut off? Fetch it again.`);
  }

  static override isInstance(error: unknown): error is EmptyFileError {
    return marked(error, EMPTY_FILE);
  }
}

/** A column that is needed is not in the file. */
export class MissingColumnError extends DatasetError {
  override readonly name = 'MissingColumnError';
  readonly [MISSING_COLUMN] = true;

  constructor(
    readonly file: string,
    /** What the column was wanted for: `user`, `item`, ... */
    readonly role: string,
    /** The name that was asked for; `undefined` when the usual names were tried. */
    readonly column: string | undefined,
    readonly present: readonly string[],
  ) {
    const missing = column === undefined ? `no column that looks like the ${role}` : `no column "${column}" (the ${role})`;
    super(
      `${file} has ${missing}. It has: ${present.join(', ') || 'none'}. ` + `Name the column with columns: { ${role}: '...' }.`,
    );
  }

  static override isInstance(error: unknown): error is MissingColumnError {
    return marked(error, MISSING_COLUMN);
  }
}

/** A file that should be text is not. */
export class BinaryFileError extends DatasetError {
  override readonly name = 'BinaryFileError';
  readonly [BINARY_FILE] = true;

  constructor(
    readonly file: string,
    /** What its first bytes look like, such as `a zip archive`. */
    readonly looksLike: string,
    advice: string,
  ) {
    super(`${file} is not text: it looks like ${looksLike}. ${advice}`);
  }

  static override isInstance(error: unknown): error is BinaryFileError {
    return marked(error, BINARY_FILE);
  }
}

/** The file breaks off or cannot be unpacked. */
export class DamagedFileError extends DatasetError {
  override readonly name = 'DamagedFileError';
  readonly [DAMAGED_FILE] = true;

  constructor(
    readonly file: string,
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super(`${file} is damaged: ${problem}. Fetch it again.`, options);
  }

  static override isInstance(error: unknown): error is DamagedFileError {
    return marked(error, DAMAGED_FILE);
  }
}

/** Nothing that can be read was found. */
export class UnknownLayoutError extends DatasetError {
  override readonly name = 'UnknownLayoutError';
  readonly [UNKNOWN_LAYOUT] = true;

  constructor(
    readonly path: string,
    readonly found: readonly string[],
    readonly lookedFor: readonly string[],
    hint = '',
  ) {
    const some = found.slice(0, 12).join(', ') + (found.length > 12 ? `, and ${found.length - 12} more` : '');
    super(
      `${path} has no layout that is known${hint && ` (${hint})`}. Found: ${some || 'nothing'}. Looked for: ${lookedFor.join('; ')}. ` +
        `Give the path of one file, with columns: { user, item, time }.`,
    );
  }

  static override isInstance(error: unknown): error is UnknownLayoutError {
    return marked(error, UNKNOWN_LAYOUT);
  }
}

/** The server refuses, or the connection breaks. */
export class DownloadError extends DatasetError {
  override readonly name = 'DownloadError';
  readonly [DOWNLOAD] = true;

  constructor(
    readonly url: string,
    readonly problem: string,
    advice: string,
    options?: ErrorOptions,
    /** True when trying again may help. */
    readonly retry = false,
  ) {
    super(`Fetching ${url} failed: ${problem}. ${advice}`, options);
  }

  static override isInstance(error: unknown): error is DownloadError {
    return marked(error, DOWNLOAD);
  }
}

/** The bytes that came are not those that were published. */
export class ChecksumError extends DatasetError {
  override readonly name = 'ChecksumError';
  readonly [CHECKSUM] = true;

  constructor(
    readonly file: string,
    readonly expected: string,
    readonly actual: string,
  ) {
    super(
      `${file} has the MD5 ${actual}, but ${expected} is published: it was damaged or changed on its way, and has been deleted. Fetch it again.`,
    );
  }

  static override isInstance(error: unknown): error is ChecksumError {
    return marked(error, CHECKSUM);
  }
}
