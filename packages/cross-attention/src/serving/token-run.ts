import * as ort from 'onnxruntime-node';
import type { DecoderConfig } from '../folder/decoder-config.js';

/**
 * Tokens of a prompt that run at once: many enough for products at full speed, few enough that the scores of a part, most of which causality
 * would hide in a whole long prompt, are not made in vain and stay small.
 */
export const promptPart = 512;

/** Where runs read and write keys and values in place: of each of the cache's tensors `[rows, key/value heads, capacity, head size]`. */
export interface CacheBuffers {
  readonly buffers: ReadonlyMap<string, Float32Array>;
  readonly capacity: number;
}

/** Tokens that go through the model, as many for each row. */
export interface NewTokens {
  /** `[rows * tokens]` */
  readonly ids: ArrayLike<number>;
  /** Positions of each row that are in the cache already. `[rows]` */
  readonly past: readonly number[];
  /** `[1 or rows, ...packed]` */
  readonly user: ort.Tensor | undefined;
  /** Tokens at the beginning of the text that do not read the user. Default 0. */
  readonly blindTokens?: number;
}

export type RunOutputs = ort.InferenceSession.OnnxValueMapType;

export const cacheNamesOf = (session: ort.InferenceSession): readonly string[] =>
  session.inputNames.filter((name) => name.startsWith('past_key_values.'));

/** Runs new tokens of `inferenceModel`'s session behind what is in the cache; the logits and states are those of each row's last token. */
export function runTokens(
  session: ort.InferenceSession,
  config: DecoderConfig,
  cache: CacheBuffers,
  { ids, past, user, blindTokens = 0 }: NewTokens,
): Promise<RunOutputs> {
  const rows = past.length;
  const tokens = ids.length / rows;
  const total = Math.max(...past) + tokens;
  const mask = new BigInt64Array(rows * total);
  past.forEach((length, row) => mask.fill(1n, row * total, row * total + length + tokens));
  const takesBlindLength = session.inputNames.includes('blind_length');
  const inputs = {
    input_ids: int64(ids, [rows, tokens]),
    attention_mask: new ort.Tensor('int64', mask, [rows, total]),
    num_logits_to_keep: int64([1], []),
    ...(takesBlindLength ? { blind_length: int64([blindTokens], []) } : {}),
    ...(user === undefined ? {} : { user_embeddings: user }),
  };
  // Models that were saved before they gave the newest alone do not.
  return session.outputNames.includes('newest')
    ? runForNewest(session, config, cache, past, inputs)
    : runInPlace(session, config, cache, rows, inputs);
}

/**
 * Runs tokens of one row in parts, behind the first `past` positions of the cache; the outputs are the last part's. A signal stops it behind
 * each of them.
 */
export async function runPrompt(
  session: ort.InferenceSession,
  config: DecoderConfig,
  cache: CacheBuffers,
  prompt: {
    readonly ids: readonly number[];
    readonly past: number;
    readonly blindTokens: number;
    readonly user: ort.Tensor | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<RunOutputs> {
  const { past, user, blindTokens, signal } = prompt;
  let outputs: RunOutputs;
  let done = 0;
  do {
    const ids = prompt.ids.slice(done, done + promptPart);
    outputs = await runTokens(session, config, cache, { ids, past: [past + done], user, blindTokens });
    done += ids.length;
    if (signal !== undefined) await heed(signal);
  } while (done < prompt.ids.length);
  return outputs;
}

/** Throws a signal's reason, also where it was given while a run blocked the event loop. */
async function heed(signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  signal.throwIfAborted();
}

/** What a run says of the next token, in new arrays. */
const predictions = { logits: null, log_normalizers: null, last_hidden_state: null };

/** Past and present are in one place: new keys and values are written behind what is there. */
function runInPlace(
  session: ort.InferenceSession,
  config: DecoderConfig,
  cache: CacheBuffers,
  rows: number,
  inputs: Readonly<Record<string, ort.Tensor>>,
): Promise<RunOutputs> {
  const past = pastOf(config, cache, rows);
  const present = Object.entries(past).map(([name, tensor]) => [name.replace('past_key_values', 'present'), tensor] as const);
  return run(session, { ...inputs, ...past }, { ...predictions, ...Object.fromEntries(present) });
}

/**
 * The keys and values of the new tokens come back alone, and are laid behind the first `past` positions of each row. The runtime copies the
 * cache then, which costs less than all of it among the outputs: each output, be it written in place, is so much new memory to the garbage
 * collector, and some megabytes with every token keep it marking the whole heap beside the runtime's own threads.
 */
export async function runForNewest(
  session: ort.InferenceSession,
  config: DecoderConfig,
  cache: CacheBuffers,
  past: readonly number[],
  inputs: Readonly<Record<string, ort.Tensor>>,
): Promise<RunOutputs> {
  const outputs = await run(session, { ...inputs, ...pastOf(config, cache, past.length) }, { ...predictions, newest: null });
  layBehind(outputs.newest.data as Float32Array, config, cache, past);
  return outputs;
}

/** Lays keys and values `[rows, layers * 2 * key/value heads, tokens, head size]` behind the first `past` positions of each row. */
function layBehind(
  newest: Float32Array,
  { layers, keyValueHeads, headSize }: DecoderConfig,
  { buffers, capacity }: CacheBuffers,
  past: readonly number[],
): void {
  const heads = 2 * layers * keyValueHeads;
  const size = newest.length / (past.length * heads);
  for (const [name, buffer] of buffers) {
    const [, layer, part] = name.split('.');
    const first = (2 * Number(layer) + (part === 'key' ? 0 : 1)) * keyValueHeads;
    past.forEach((position, row) => {
      for (let head = 0; head < keyValueHeads; head++) {
        const from = (row * heads + first + head) * size;
        buffer.set(newest.subarray(from, from + size), ((row * keyValueHeads + head) * capacity + position) * headSize);
      }
    });
  }
}

/** The cache as a run reads it. */
function pastOf(
  { keyValueHeads, headSize }: DecoderConfig,
  { buffers, capacity }: CacheBuffers,
  rows: number,
): Record<string, ort.Tensor> {
  const size = rows * keyValueHeads * capacity * headSize;
  const tensorOf = (buffer: Float32Array) =>
    new ort.Tensor('float32', buffer.length === size ? buffer : buffer.subarray(0, size), [
      rows,
      keyValueHeads,
      capacity,
      headSize,
    ]);
  return Object.fromEntries(Array.from(buffers, ([name, buffer]) => [name, tensorOf(buffer)]));
}

const run = (
  session: ort.InferenceSession,
  feeds: Record<string, ort.Tensor>,
  fetches: Record<string, ort.Tensor | null>,
): Promise<RunOutputs> =>
  session.run(feeds, fetches as ort.InferenceSession.NullableOnnxValueMapType & Record<string, ort.Tensor>);

export const int64 = (values: ArrayLike<number>, shape: readonly number[]): ort.Tensor =>
  new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
