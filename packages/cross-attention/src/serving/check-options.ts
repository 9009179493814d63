import { checkCount } from '../check-count.js';
import type { Precision } from '../decoder/packable-matrix.js';
import type { LoadOptions } from '../hub/local-place.js';
import type { WorkerOptions } from '../worker/worker-model.js';
import type { IntegerOption, ServeModelOptions, ServeOptions } from './engine.js';

/** What options of a few values may be. */
const values: { readonly [Name in keyof Precision]-?: readonly Precision[Name][] } = {
  accuracyLevel: [0, 4],
  quantize: [8, 4, false],
  codes: ['nibbles', 'bytes'],
};

/** What a saved model is opened with, in this thread and in others. */
const opening: Record<keyof (ServeOptions & IntegerOption), true> = { threads: true, atOnce: true, int8: true };
const openingInWorkers: Record<keyof WorkerOptions, true> = { workers: true, rows: true, ...opening };
const finding: Record<keyof LoadOptions, true> = {
  ...{ file: true, revision: true, token: true, endpoint: true, cache: true, offline: true, refresh: true },
  ...{ onProgress: true, signal: true, retries: true, retryDelayMs: true, idleTimeoutMs: true },
};

/** Throws a `RangeError` for an option that opening a saved model does not read, such as its precision. */
export function checkOpenOptions(options: object, { inWorkers }: { readonly inWorkers: boolean }): void {
  const names = Object.keys({ ...(inWorkers ? openingInWorkers : opening), ...finding });
  const unknown = Object.entries(options).find(([name, value]) => value !== undefined && !names.includes(name));
  if (unknown !== undefined)
    throw new RangeError(
      `${unknown[0]} is no option for opening a saved model, which is computed with as it was saved: there are ${names.join(', ')}. Save it otherwise, or load it and serve({ quantize, accuracyLevel, codes }).`,
    );
}

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
