import type { KeyNames } from './keys.js';

/** Base of the errors below: a stable marker, so that a check survives two copies of this package in one process. */
function marker(name: string): symbol {
  return Symbol.for(`@user-llm/embedding-store/${name}`);
}

function carries(error: unknown, mark: symbol): boolean {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[mark] === true;
}

/** The store's address names no driver, or a driver without what it needs. */
export class StoreAddressError extends Error {
  static readonly #mark = marker('StoreAddressError');
  override readonly name = 'StoreAddressError';
  /** The part before the colon; empty where there was none. */
  readonly scheme: string;
  /** The forms that `openStore` accepts. */
  readonly known: readonly string[];

  constructor(scheme: string, known: readonly string[], what: string) {
    super(`${what}; openStore accepts ${known.join(' and ')}.`);
    this.scheme = scheme;
    this.known = known;
    Object.defineProperty(this, StoreAddressError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreAddressError {
    return carries(error, StoreAddressError.#mark);
  }
}

/** A value handed to the store is not what a record can hold. Nothing of that record was written. */
export class InvalidEmbeddingError extends Error {
  static readonly #mark = marker('InvalidEmbeddingError');
  override readonly name = 'InvalidEmbeddingError';
  /** The field that is wrong. */
  readonly field: string;

  constructor(field: string, what: string) {
    super(`The embedding's field "${field}" ${what}.`);
    this.field = field;
    Object.defineProperty(this, InvalidEmbeddingError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is InvalidEmbeddingError {
    return carries(error, InvalidEmbeddingError.#mark);
  }
}

/** The store was used after `close()`. */
export class StoreClosedError extends Error {
  static readonly #mark = marker('StoreClosedError');
  override readonly name = 'StoreClosedError';

  constructor() {
    super('The store is closed; open it again with openStore before using it.');
    Object.defineProperty(this, StoreClosedError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreClosedError {
    return carries(error, StoreClosedError.#mark);
  }
}

/** The store's file is truncated or damaged, and was not opened: reading it could end the process. */
export class StoreDamagedError extends Error {
  static readonly #mark = marker('StoreDamagedError');
  override readonly name = 'StoreDamagedError';
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(`The store in ${path} is damaged: ${reason}. Restore it from a copy, or move it away and encode the users again.`);
    this.path = path;
    this.reason = reason;
    Object.defineProperty(this, StoreDamagedError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreDamagedError {
    return carries(error, StoreDamagedError.#mark);
  }
}

/** A scan met a record that fails its checksum, and was given no `onDamaged`. */
export class DamagedRecordError extends Error {
  static readonly #mark = marker('DamagedRecordError');
  override readonly name = 'DamagedRecordError';
  readonly reason: string;
  /** Whose record it is and of which encoder; undefined for an id of more than 200 bytes. */
  readonly tenant: string | undefined;
  readonly user: string | undefined;
  readonly encoder: string | undefined;

  constructor(reason: string, { tenant, user, encoder }: KeyNames = {}) {
    super(
      `A record of the store is damaged: ${reason}. Encode the user that this error names again, or pass onDamaged to scan past such records.`,
    );
    this.reason = reason;
    this.tenant = tenant;
    this.user = user;
    this.encoder = encoder;
    Object.defineProperty(this, DamagedRecordError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is DamagedRecordError {
    return carries(error, DamagedRecordError.#mark);
  }
}

/** The disk (or the quota, or the file size limit) has no room for the write. What was acknowledged before stands. */
export class StoreFullError extends Error {
  static readonly #mark = marker('StoreFullError');
  override readonly name = 'StoreFullError';
  readonly path: string;

  constructor(path: string, detail: string) {
    super(`No room to write the store in ${path}: ${detail}. Free some space, erase users and compact(), then write again.`);
    this.path = path;
    Object.defineProperty(this, StoreFullError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreFullError {
    return carries(error, StoreFullError.#mark);
  }
}

/** The store could not be opened or written for another reason than room. What was acknowledged before stands. */
export class StoreAccessError extends Error {
  static readonly #mark = marker('StoreAccessError');
  override readonly name = 'StoreAccessError';
  readonly path: string;

  constructor(path: string, detail: string) {
    super(
      `The store in ${path} could not be used: ${detail}. Check that the folder and its files are yours to read and write, then open it again.`,
    );
    this.path = path;
    Object.defineProperty(this, StoreAccessError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreAccessError {
    return carries(error, StoreAccessError.#mark);
  }
}

/** `compact()` needs the store for itself, and others have it open; or the store is being compacted by another process. */
export class StoreInUseError extends Error {
  static readonly #mark = marker('StoreInUseError');
  override readonly name = 'StoreInUseError';
  readonly path: string;
  /** Processes that have it open. */
  readonly pids: readonly number[];

  /** @param file its mark, where whether that process is still there cannot be told */
  constructor(path: string, pids: readonly number[], what: string, file?: string) {
    const byHand = file === undefined ? '' : ` If that was in a container that is gone, remove ${file}.`;
    const by = pids.length === 0 ? '' : ` (process ${pids.join(', ')})`;
    super(`The store in ${path} is ${what}${by}. Wait for it to finish or close it there, then try again.${byHand}`);
    this.path = path;
    this.pids = pids;
    Object.defineProperty(this, StoreInUseError.#mark, { value: true });
  }

  static isInstance(error: unknown): error is StoreInUseError {
    return carries(error, StoreInUseError.#mark);
  }
}
