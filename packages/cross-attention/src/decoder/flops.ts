import type { DecoderConfig } from '../folder/decoder-config.js';

/** Which tokens a run of the decoder computes. */
export interface DecoderWork {
  readonly rows: number;
  /** Tokens of each row that go through the layers. */
  readonly tokens: number;
  /** Positions of each row that are in the key/value cache already. */
  readonly past?: number;
  /** Positions of each row whose logits are computed. */
  readonly logits: number;
}

/** Floating-point operations of the matrix products of one run, 2 m n k each; attention counts the pairs that causality leaves. */
export function decoderFlops(config: DecoderConfig, { rows, tokens, past = 0, logits }: DecoderWork): number {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize, layers, vocabularySize } = config;
  const projections = hiddenSize * headSize * (2 * heads + 2 * keyValueHeads) + 3 * hiddenSize * intermediateSize;
  const pairs = tokens * past + (tokens * (tokens + 1)) / 2;
  const perRow = layers * (tokens * projections + 2 * pairs * heads * headSize) + logits * hiddenSize * vocabularySize;
  return 2 * rows * perRow;
}
