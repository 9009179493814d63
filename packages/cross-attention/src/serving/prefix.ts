import type * as ort from 'onnxruntime-node';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { cacheNamesOf, runPrompt } from './token-run.js';
import type { CacheBuffers } from './token-run.js';

/** The beginning of a prompt, computed once for all users: its tokens, and their keys and values in every layer. */
export interface Prefix {
  /** Names the weights that made it. */
  readonly model: string;
  readonly ids: readonly number[];
  /** Of each of the cache's tensors, `[1, key/value heads, tokens, head size]`. */
  readonly keysAndValues: ReadonlyMap<string, Float32Array>;
  /** Size of the keys and values. */
  readonly bytes: number;
  /** What computing it cost. */
  readonly milliseconds: number;
}

/** Runs the first tokens of a prompt with nobody to read. */
export async function computePrefix(
  session: ort.InferenceSession,
  config: DecoderConfig,
  {
    model,
    ids,
    nobody,
    signal,
  }: {
    readonly model: string;
    readonly ids: readonly number[];
    readonly nobody: ort.Tensor | undefined;
    readonly signal: AbortSignal | undefined;
  },
): Promise<Prefix> {
  const begun = performance.now();
  const values = config.keyValueHeads * ids.length * config.headSize;
  const keysAndValues = new Map(cacheNamesOf(session).map((name) => [name, new Float32Array(values)]));
  const cache = { buffers: keysAndValues, capacity: ids.length };
  await runPrompt(session, config, cache, { ids, past: 0, blindTokens: ids.length, user: nobody, signal });
  const bytes = keysAndValues.size * values * Float32Array.BYTES_PER_ELEMENT;
  return { model, ids: [...ids], keysAndValues, bytes, milliseconds: performance.now() - begun };
}

/** Why what a prefix holds cannot be this model's keys and values of its tokens; undefined where it can. */
export function problemOfKeysAndValues(
  { ids, keysAndValues }: Prefix,
  { layers, keyValueHeads, headSize }: Pick<DecoderConfig, 'layers' | 'keyValueHeads' | 'headSize'>,
): string | undefined {
  const length = keyValueHeads * ids.length * headSize;
  // Maps and arrays of another realm, as of a worker or a test runner, are such too.
  const isA = (value: unknown, kind: string) => Object.prototype.toString.call(value) === `[object ${kind}]`;
  const isWhole = (name: string) => {
    const values = isA(keysAndValues, 'Map') ? keysAndValues.get(name) : undefined;
    return isA(values, 'Float32Array') && values!.length === length;
  };
  const names = Array.from({ length: 2 * layers }, (_, i) => `past_key_values.${i >> 1}.${i % 2 === 0 ? 'key' : 'value'}`);
  const missing = names.find((name) => !isWhole(name));
  return missing === undefined
    ? undefined
    : `holds no ${missing} of ${length} numbers (Float32Array). Keep a prefix as it was given, or compute it again.`;
}

/** Copies a prefix to the beginning of one row of a cache. */
export function placePrefix(
  { ids, keysAndValues }: Prefix,
  cache: CacheBuffers,
  config: Pick<DecoderConfig, 'keyValueHeads' | 'headSize'>,
  row = 0,
): void {
  const { keyValueHeads, headSize } = config;
  const length = ids.length * headSize;
  for (const [name, values] of keysAndValues) {
    const buffer = cache.buffers.get(name)!;
    for (let head = 0; head < keyValueHeads; head++)
      buffer.set(values.subarray(head * length, (head + 1) * length), (row * keyValueHeads + head) * cache.capacity * headSize);
  }
}
