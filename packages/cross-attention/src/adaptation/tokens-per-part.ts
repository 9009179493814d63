import type { DecoderConfig } from '../folder/decoder-config.js';

/** What the backward pass of a part may have to read again. */
const activationBytes = 2 ** 30;
/** More tokens than that at once make a step of a small model no faster. */
const mostTokens = 8192;

/**
 * How many text tokens of rows of `length` tokens can run at once where every layer learns, so that activations and the head's probabilities
 * hold about a gigabyte (docs/memory-of-a-training-step.md); at most 8,192.
 */
export function tokensThatFit(config: DecoderConfig, length: number): number {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize } = config;
  // Norms and what they give; queries, keys and values before and after they are turned; the feed-forward layer's products and their gate.
  const ofLayer = 5 * hiddenSize + 2 * (heads + 2 * keyValueHeads) * headSize + 4 * intermediateSize + heads * length;
  const bytes = 4 * (config.layers * ofLayer + config.vocabularySize);
  return Math.min(mostTokens, Math.floor(activationBytes / bytes));
}
