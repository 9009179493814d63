import { checkCount } from '../check-count.js';
import type { Precision } from '../decoder/packable-matrix.js';
import type { ServeModelOptions } from './engine.js';

/** What options of a few values may be. */
const values: { readonly [Name in keyof Precision]-?: readonly Precision[Name][] } = {
  accuracyLevel: [0, 4],
  quantize: [8, 4, false],
  codes: ['nibbles', 'bytes'],
};

/** Throws a `RangeError` for an option by which no model is computed with: of its counts, its precision, its products in integers. */
export function checkServeOptions({ threads, atOnce, int8, ...precision }: ServeModelOptions): void {
  for (const [name, count] of Object.entries({ threads, atOnce })) if (count !== undefined) checkCount(name, count);
  for (const name of ['accuracyLevel', 'quantize', 'codes'] as const) {
    const value: unknown = precision[name];
    if (value !== undefined && !values[name].some((known) => known === value))
      throw new RangeError(`${name} must be ${values[name].join(' or ')}, not ${String(value)}.`);
  }
  if (int8 !== undefined && typeof int8 !== 'boolean' && !(typeof int8 === 'object' && int8 !== null))
    throw new RangeError(`int8 must be true, false or { text }, not ${String(int8)}.`);
}
