import type { Feeds, GraphBuilder, Tensor, Weights } from '@user-llm/onnx-autograd';

/**
 * A user encoder as a language model trains through it. Met structurally: any object of this shape will do, such as
 * `encoder.trainable(events)` of a `UserEncoder` of `@user-llm/user-encoder`, which is none itself. Parameters of the part that
 * makes the K user tokens (the resampler) have names that begin with `resampler.`, unless `isResampler` says otherwise.
 */
export interface TrainableEncoder<History> {
  readonly manifest: { readonly hash: string; readonly userTokens: number; readonly width: number };
  readonly weights: Weights;
  /** What `build`'s inputs are fed for these histories, one per row. */
  feeds(histories: readonly History[]): Feeds;
  /** Adds the encoder to a graph: user tokens `[B, K, D]`, the first axis a named one. */
  build(graph: GraphBuilder): { readonly tokens: Tensor; readonly mask?: Tensor };
  /** The same encoder with other weights, and so with another hash. It need not be of this shape again. */
  withWeights(weights: Weights): { readonly manifest: { readonly hash: string } };
  isResampler?(parameter: string): boolean;
}

/** What `withWeights` of an encoder gives. */
export type Adapted<E> = E extends { withWeights(weights: Weights): infer R } ? Awaited<R> : never;

export const encoderScope = 'encoder';

const prefix = `${encoderScope}.`;

export const isEncoderParameter = (name: string): boolean => name.startsWith(prefix);

export function isResamplerParameter(encoder: TrainableEncoder<never>, name: string): boolean {
  if (!isEncoderParameter(name)) return false;
  const own = name.slice(prefix.length);
  return encoder.isResampler?.(own) ?? own.startsWith('resampler.');
}

/** Weights or feeds of the encoder by their names in the joint graph. */
export function withScope<T>(entries: Iterable<readonly [string, T]>): [string, T][] {
  return Array.from(entries, ([name, value]) => [prefix + name, value]);
}

/** The encoder's own among the joint graph's weights, by their own names. */
export function withoutScope<T>(entries: Iterable<readonly [string, T]>): Map<string, T> {
  const own = new Map<string, T>();
  for (const [name, value] of entries) if (isEncoderParameter(name)) own.set(name.slice(prefix.length), value);
  return own;
}
