import type { Cost } from './system.js';

/** 2mnk: the floating-point operations of a matrix product [m, k] x [k, n], a multiplication and an addition each. */
export const matmulFlops = (m: number, n: number, k: number): number => 2 * m * n * k;

/** Costs that arise one after the other: an encoder's and a language model's, say. */
export function addCosts(...costs: readonly Cost[]): Cost {
  return costs.reduce((sum, cost) => ({ tokens: sum.tokens + cost.tokens, flops: sum.flops + cost.flops }), {
    tokens: 0,
    flops: 0,
  });
}

/** Sizes of a Llama-like decoder, for {@link decoderFlops}. */
export interface DecoderSizes {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headWidth: number;
  /** inner width of the gated feed-forward network */
  readonly feedForward: number;
  readonly vocabulary: number;
}

/**
 * FLOPs of one forward pass, counted over the matrix products that run: projections, attention scores and values (the causal half is
 * not subtracted: it is computed and masked), the three products of the gated feed-forward network, and the output layer.
 *
 * @param tokens new tokens
 * @param past tokens in the key/value cache. Default 0.
 * @param logits positions that the output layer is computed for. Default 1.
 */
export function decoderFlops(
  sizes: DecoderSizes,
  { tokens, past = 0, logits = 1 }: { tokens: number; past?: number; logits?: number },
): number {
  const { layers, width, heads, keyValueHeads, headWidth, feedForward, vocabulary } = sizes;
  const queries = matmulFlops(tokens, heads * headWidth, width);
  const keysAndValues = 2 * matmulFlops(tokens, keyValueHeads * headWidth, width);
  const attention = 2 * heads * matmulFlops(tokens, tokens + past, headWidth);
  const output = matmulFlops(tokens, width, heads * headWidth);
  const network = 3 * matmulFlops(tokens, feedForward, width);
  return layers * (queries + keysAndValues + attention + output + network) + matmulFlops(logits, vocabulary, width);
}
