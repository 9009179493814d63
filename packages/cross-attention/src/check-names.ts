import { AdaptationError } from './errors.js';

/**
 * What is ignored was meant to change something: throws an `AdaptationError` for a value under a name that is not known.
 *
 * @param prefix of the names in what the error says, such as `validation.`
 */
export function checkNames(values: object, known: readonly string[], prefix = ''): void {
  for (const [name, value] of Object.entries(values))
    if (value !== undefined && !known.includes(name))
      throw new AdaptationError(
        `${prefix}${name}`,
        known.length === 0 ? 'is no setting; there are none' : `is no setting; there are ${known.join(', ')}`,
      );
}
