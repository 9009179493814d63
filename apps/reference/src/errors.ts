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

/** Whether a package of this project made the error: they mark theirs with registered symbols, which survive duplicate installs. */
export function isOurs(error: unknown): error is Error {
  for (let object: unknown = error; typeof object === 'object' && object !== null; object = Object.getPrototypeOf(object))
    if (Object.getOwnPropertySymbols(object).some((symbol) => Symbol.keyFor(symbol)?.startsWith('@user-llm/'))) return true;
  return false;
}

/** What reading a file says that was cut short, changed, or is not what it should be. */
const damage = new Set([
  'TokenizerFormatError',
  'TokenizerHashError',
  'TokenizerMismatchError',
  'EncoderFormatError',
  'EncoderHashError',
  'SafetensorsError',
  'ModelFolderError',
  'TokenizerError',
  'StoreDamagedError',
  'CheckpointError',
  'PretrainCheckpointError',
]);

/** Whether an error says that what was read is damaged. */
export const isDamage = (error: unknown): boolean =>
  error instanceof SyntaxError || (isOurs(error) && damage.has(error.name) && systemErrorOf(error) === undefined);

/** What the operating system said, where an error or its causes come from there. */
export function systemErrorOf(error: unknown): NodeJS.ErrnoException | undefined {
  for (let each = error; typeof each === 'object' && each !== null; each = (each as Error).cause) {
    const { code, syscall } = each as NodeJS.ErrnoException;
    if (typeof code === 'string' && (typeof syscall === 'string' || code in fileProblems)) return each as NodeJS.ErrnoException;
  }
  return undefined;
}

/** What the operating system says of a file, in words. */
export const fileProblems: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space and run the same command again: what is finished is kept',
  EDQUOT: 'the disk quota is used up; free some space and run the same command again: what is finished is kept',
  EACCES: 'access is denied; check the permissions, or name another folder with --out',
  EPERM: 'access is denied; check the permissions, or name another folder with --out',
  EROFS: 'the file system is read-only; name another folder with --out',
  ENOENT: 'there is no such file or folder; check the path',
  EEXIST: 'there is a file of that name; remove it, or name another folder with --out',
  ENOTDIR: 'a part of the path is a file, not a folder; check the path',
  EISDIR: 'it is a folder, where a file is expected; check the path',
  EIO: 'the disk cannot be read or written there; check it, or name another folder with --out',
  EMFILE: 'too many files are open; close other programs, or raise the limit (ulimit -n)',
  ENFILE: 'too many files are open; close other programs',
};
