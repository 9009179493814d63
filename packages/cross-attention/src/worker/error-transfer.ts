import { AdaptationError, DoesNotFitError, EncoderMismatchError, PrefixError } from '../errors.js';
import { ModelFolderError } from '../folder/model-folder-error.js';
import { TokenizerError } from '../text/text-tokenizer.js';

const classes = new Map<string, { readonly prototype: Error }>(
  [AdaptationError, DoesNotFitError, EncoderMismatchError, ModelFolderError, PrefixError, TokenizerError].map((each) => [
    each.name,
    each,
  ]),
);
for (const each of [RangeError, TypeError]) classes.set(each.name, each);

/** An error as a message between threads: of its properties those that are text, numbers or truth values. */
export interface ErrorRecord {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
  /** Keys of the symbols by which its `isInstance` knows it. */
  readonly markers: readonly string[];
}

export function packError(error: unknown): ErrorRecord {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), fields: {}, markers: [] };
  const fields: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(error))
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') fields[name] = value;
  const markers = Object.getOwnPropertySymbols(error).flatMap((symbol) => Symbol.keyFor(symbol) ?? []);
  const { name, message, stack } = error;
  return { name, message, ...(stack === undefined ? {} : { stack }), fields, markers };
}

/** The same error again: an instance of its class, with its fields. */
export function unpackError({ name, message, stack, fields, markers }: ErrorRecord): Error {
  const error = new Error(message);
  const known = classes.get(name);
  if (known !== undefined) Object.setPrototypeOf(error, known.prototype);
  Object.assign(error, fields);
  for (const marker of markers) Object.defineProperty(error, Symbol.for(marker), { value: true });
  if (stack !== undefined) error.stack = stack;
  return error;
}
