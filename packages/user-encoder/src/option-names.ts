import { EncoderOptionError } from './errors.js';

/**
 * Refuses names that there are not (a misspelt option would be ignored), and what has no names.
 *
 * @param of the option or the function that these belong to
 * @throws EncoderOptionError
 */
export function checkNames(options: object, known: readonly string[], of?: string): void {
  if (typeof options !== 'object' || options === null)
    throw new EncoderOptionError(of ?? 'options', `'${String(options)}' is no object; there are the options ${known.join(', ')}`);
  for (const name of Object.keys(options))
    if (!known.includes(name))
      throw new EncoderOptionError(
        of === undefined ? name : `${of}.${name}`,
        `there is no such option; there are ${known.join(', ')}`,
      );
}

/** Refuses a function where what it makes is wanted. @throws EncoderOptionError */
export function checkCalled(option: string, value: unknown): void {
  if (typeof value === 'function')
    throw new EncoderOptionError(option, `${value.name || 'a function'} was not called; write ${value.name || option}()`);
}
