import { SchemaError } from './errors.js';

/** @throws SchemaError for a name that no option has, which else would do nothing */
export function checkOptions<Options extends object>(options: Options, known: Readonly<Record<keyof Options, true>>): void {
  for (const name of Object.keys(options))
    if (!Object.hasOwn(known, name))
      throw new SchemaError(name, `there is no such option. There are ${Object.keys(known).join(', ')}.`);
}
