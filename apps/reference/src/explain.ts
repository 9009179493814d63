import { fileProblems, isOurs, systemErrorOf, UsageError } from './errors.js';
import { inOwnWords } from './own-words.js';

export interface Explained {
  readonly message: string;
  /** 2: the person can mend it. 1: a bug of ours. 130: interrupted. */
  readonly exitCode: 1 | 2 | 130;
}

/** What the packages say of calls that cannot work: here the call is ours, and so is the bug. */
const misuse = new Set([
  'ShapeError',
  'FeedError',
  'WeightError',
  'NotDifferentiableError',
  'DisposedError',
  'InvalidResultError',
  'StoreClosedError',
  'StoreAddressError',
  'InvalidEmbeddingError',
  'UnknownFieldError',
  'SchemaError',
]);

/** One line about an error, and the exit code that goes with it. */
export function explain(thrown: unknown): Explained {
  if (isAbort(thrown))
    return { message: 'stopped; what was finished is kept, and the same command goes on from there', exitCode: 130 };
  const error = unwrapped(thrown);
  if (!hasMessage(error)) return { message: `internal: ${String(error)}`, exitCode: 1 };
  if (UsageError.isInstance(error) && !error.message.startsWith('internal:'))
    return { message: oneLine(error.message), exitCode: 2 };
  const system = systemErrorOf(error);
  const problem = system && fileProblems[system.code ?? ''];
  if (system && problem) return { message: `${placeOf(error) ?? oneLine(system.message)}: ${problem}`, exitCode: 2 };
  if (error instanceof RangeError && error.message === 'Array buffer allocation failed')
    return { message: 'there is not enough memory; close other programs, or give a smaller log or model', exitCode: 2 };
  if (isOurs(error) && !misuse.has(error.name) && !error.message.startsWith('internal:'))
    return { message: oneLine(inOwnWords(error)), exitCode: 2 };
  const message = oneLine(error.message).replace(/^internal: /, '');
  return { message: `internal: ${message} (a bug; --verbose shows where)`, exitCode: 1 };
}

/** An evaluation wraps what a system throws. */
function unwrapped(error: unknown): unknown {
  return isOurs(error) && error.name === 'SystemFailedError' && error.cause !== undefined ? unwrapped(error.cause) : error;
}

/** The file or folder that an error is about, by whatever name it has there, from the outside in. */
function placeOf(error: unknown): string | undefined {
  for (let each = error; typeof each === 'object' && each !== null; each = (each as Error).cause) {
    const { file, folder, path, source } = each as Record<string, unknown>;
    // A model's folder comes with the name of a file inside it.
    const place = folder ?? file ?? path ?? source;
    // By the name that it has in the end, not by the one that it is written under.
    if (typeof place === 'string') return place.replace(/[./]\d+-[0-9a-f]{8}\.tmp/, '');
  }
  return undefined;
}

const oneLine = (message: string): string => message.replace(/\s*\n\s*/g, ' ').trim();
const hasMessage = (error: unknown): error is Error => typeof error === 'object' && error !== null && 'message' in error;

function isAbort(error: unknown): boolean {
  for (let each = error; hasMessage(each); each = each.cause)
    if (each.name === 'AbortError' || (each as NodeJS.ErrnoException).code === 'ABORT_ERR') return true;
  return false;
}
