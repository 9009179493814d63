const marker = (name: string): symbol => Symbol.for(`@user-llm/datasets/${name}`);

/** All errors of this package. `isInstance`, here and on each class, holds across duplicate installs. */
export abstract class DatasetError extends Error {
  readonly [key: symbol]: boolean;
  protected static marker = marker('error');

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    let type: unknown = new.target;
    while (typeof type === 'function' && type !== Error) {
      Object.defineProperty(this, (type as unknown as { marker: symbol }).marker, { value: true });
      type = Object.getPrototypeOf(type);
    }
  }

  static isInstance<T extends DatasetError>(this: { readonly prototype: T }, error: unknown): error is T {
    const { marker: own } = this as unknown as { marker: symbol };
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[own] === true;
  }
}

/** An option has a value that cannot work. */
export class InvalidOptionError extends DatasetError {
  override readonly name = 'InvalidOptionError';
  protected static override marker = marker('invalid-option');

  constructor(
    readonly option: string,
    readonly value: unknown,
    readonly wanted: string,
  ) {
    super(`${option} is ${JSON.stringify(value) ?? String(value)}: it must be ${wanted}.`);
  }
}

/** There is nothing at the path. */
export class PathNotFoundError extends DatasetError {
  override readonly name = 'PathNotFoundError';
  protected static override marker = marker('path-not-found');

  constructor(readonly path: string) {
    super(`There is no file or folder ${path}. Check the spelling, or fetch an official archive with download().`);
  }
}

/** The file has no rows. */
export class EmptyFileError extends DatasetError {
  override readonly name = 'EmptyFileError';
  protected static override marker = marker('empty-file');

  constructor(readonly file: string) {
    super(`${file} holds no rows. Was its download cut off? Fetch it again.`);
  }
}

/** A column that is needed is not in the file. */
export class MissingColumnError extends DatasetError {
  override readonly name = 'MissingColumnError';
  protected static override marker = marker('missing-column');

  constructor(
    readonly file: string,
    /** What the column was wanted for: `user`, `item`, ... */
    readonly role: string,
    /** The name that was asked for; `undefined` when the usual names were tried. */
    readonly column: string | undefined,
    readonly present: readonly string[],
    /** The option that names it. */
    option: 'columns' | 'itemColumns' = 'columns',
  ) {
    const missing = column === undefined ? `no column that looks like the ${role}` : `no column "${column}" (the ${role})`;
    super(
      `${file} has ${missing}. It has: ${present.join(', ') || 'none'}. ` + `Name the column with ${option}: { ${role}: '...' }.`,
    );
  }
}

/** A file that should be text is not. */
export class BinaryFileError extends DatasetError {
  override readonly name = 'BinaryFileError';
  protected static override marker = marker('binary-file');

  constructor(
    readonly file: string,
    /** What its first bytes look like, such as `a zip archive`. */
    readonly looksLike: string,
    advice: string,
  ) {
    super(`${file} is not text: it looks like ${looksLike}. ${advice}`);
  }
}

/** The file breaks off, cannot be unpacked, or is not what its name says. */
export class DamagedFileError extends DatasetError {
  override readonly name = 'DamagedFileError';
  protected static override marker = marker('damaged-file');

  constructor(
    readonly file: string,
    readonly problem: string,
    options?: ErrorOptions,
    advice = 'Fetch it again.',
  ) {
    super(`${file} cannot be read: ${problem}. ${advice}`, options);
  }
}

/** Nothing that can be read was found. */
export class UnknownLayoutError extends DatasetError {
  override readonly name = 'UnknownLayoutError';
  protected static override marker = marker('unknown-layout');

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
}

/** The server refuses, or the connection breaks. */
export class DownloadError extends DatasetError {
  override readonly name = 'DownloadError';
  protected static override marker = marker('download');

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
}

/** The bytes that came are not those that were published. */
export class ChecksumError extends DatasetError {
  override readonly name = 'ChecksumError';
  protected static override marker = marker('checksum');

  constructor(
    readonly file: string,
    readonly expected: string,
    readonly actual: string,
  ) {
    super(
      `${file} has the MD5 ${actual}, but ${expected} is published: it was damaged or changed on its way, and has been deleted. Fetch it again.`,
    );
  }
}
