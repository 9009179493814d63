import type { Rejection } from '@user-llm/event-tokenizer';
import { fileProblems } from './errors.js';

/**
 * The packages advise those who write programs; here the same advice is given in options and commands of `user-llm`. Errors are told
 * apart by name: importing every package for its classes would make each command start slowly.
 */
const words: Readonly<Record<string, (error: Error & Record<string, unknown>) => string>> = {
  PathNotFoundError: ({ path }) => `there is no file or folder ${String(path)}; check what --data names`,
  UnknownLayoutError: ({ message }) =>
    message.replace(/Give the path of one file.*$/s, `Give the path of one file, and ${namedColumns}.`),
  MissingColumnError: ({ message, file, role, column, present }) => {
    if (typeof file !== 'string') return message;
    const missing =
      column === undefined
        ? `no column that looks like the ${String(role)}`
        : `no column '${String(column)}' for the ${String(role)}`;
    return `${file} has ${missing}; it has ${(present as string[]).join(', ') || 'none'}. Name it with --columns ${String(role)}=NAME`;
  },
  InvalidOptionError: ({ message }) => message.replace(/^columns\b/, '--columns'),
  EmptyLogError: ({ message, rows, first }) =>
    first === undefined
      ? message.replace(/Check that the source.*$/s, `If these are not the right columns, ${namedColumns}.`)
      : `none of the ${String(rows)} rows is usable; the first, ${rejectionInWords(first as Rejection)}. If these are not the right columns, ${namedColumns}.`,
  StoreFullError: ({ path }) => `${String(path)}: ${fileProblems.ENOSPC}`,
  TokenizerVersionError: ({ source, found }) =>
    `${String(source)} has format ${String(found)}, which a newer user-llm wrote; use that one, or another folder with --out`,
};

const namedColumns = 'name them with --columns user=NAME,item=NAME,time=NAME';

/** A row that was refused. Times reach the event tokenizer as seconds, however the file has them; what is none, as it stands there. */
export function rejectionInWords({ line, field, reason }: Omit<Rejection, 'kind'>): string {
  const why =
    field === 'time' && reason.endsWith(noNumber)
      ? `${reason.slice(0, -noNumber.length)} cannot be read as a time; times are numbers, or ISO 8601 (2024-12-31T10:00:00Z)`
      : reason;
  return `line ${line}${field ? `, ${field}` : ''}: ${why}`;
}

const noNumber = ' is not a number';

/** What an error of one of the packages says, with advice that can be followed at the command line. */
export const inOwnWords = (error: Error): string =>
  words[error.name]?.(error as Error & Record<string, unknown>) ?? error.message;
