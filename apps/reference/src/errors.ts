const marker = Symbol.for('@user-llm/reference/UsageError');

/** Something that the person at the keyboard can mend: shown as one line, exit code 2. */
export class UsageError extends Error {
  readonly [marker] = true;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UsageError';
  }

  static isInstance(error: unknown): error is UsageError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}

/** What the operating system says of a file, in words. */
const systemErrors: Readonly<Record<string, string>> = {
  ENOSPC:
    'the disk is full; free some space or name another folder with --out, and run the same command again: finished stages are kept',
  EDQUOT: 'the disk quota is used up; free some space or name another folder with --out',
  EACCES: 'access is denied; check the permissions or name another folder',
  EPERM: 'access is denied; check the permissions or name another folder',
  EROFS: 'the file system is read-only; name another folder with --out',
  ENOENT: 'there is no such file or folder; check the path',
  ENOTDIR: 'a part of the path is a file, not a folder; check the path',
  EISDIR: 'it is a folder, where a file is expected; check the path',
  EMFILE: 'too many files are open; close other programs',
};

export interface Explained {
  readonly message: string;
  /** 2: the person can mend it. 1: a bug of ours. 130: interrupted. */
  readonly exitCode: 1 | 2 | 130;
}

/** One line about an error, and the exit code that goes with it. */
export function explain(error: unknown): Explained {
  if (isAbort(error))
    return { message: 'stopped; what was finished is kept, and the same command goes on from there', exitCode: 130 };
  if (!(error instanceof Error) && !hasMessage(error)) return { message: `internal: ${String(error)}`, exitCode: 1 };
  const { code, path, message } = error as NodeJS.ErrnoException;
  const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
  const known = systemErrors[code ?? ''] ?? (cause && systemErrors[cause.code ?? '']);
  if (known && !isOurs(error)) return { message: `${path ?? cause?.path ?? message}: ${known}`, exitCode: 2 };
  if (isOurs(error) && !message.startsWith('internal:')) return { message: oneLine(message), exitCode: 2 };
  return { message: `internal: ${oneLine(message)} (a bug; --verbose shows where)`, exitCode: 1 };
}

const oneLine = (message: string): string => message.replace(/\s*\n\s*/g, ' ').trim();
const hasMessage = (error: unknown): error is Error => typeof error === 'object' && error !== null && 'message' in error;
const isAbort = (error: unknown): boolean =>
  hasMessage(error) && (error.name === 'AbortError' || (error as NodeJS.ErrnoException).code === 'ABORT_ERR');

/** The packages mark their errors with registered symbols, which survive duplicate installs. */
const isOurs = (error: unknown): boolean => {
  for (let object: unknown = error; typeof object === 'object' && object !== null; object = Object.getPrototypeOf(object))
    if (Object.getOwnPropertySymbols(object).some((symbol) => Symbol.keyFor(symbol)?.startsWith('@user-llm/'))) return true;
  return false;
};
