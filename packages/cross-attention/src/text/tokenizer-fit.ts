import type { DecoderConfig } from '../folder/decoder-config.js';
import type { TextTokenizer } from './text-tokenizer.js';

/** Models round their rows up, by a few hundred to a few thousand (DeepSeek's 100,015 words have 102,400), small ones to a power of two. */
const leastShare = 0.9;
const roundedUp = (size: number): number => Math.max(size / leastShare, 2 ** Math.ceil(Math.log2(size)));

/**
 * What shows that a tokenizer is not the one that a model was trained with; undefined where nothing does. That it ends answers otherwise
 * than the config is no such sign: many chat models differ there.
 */
export function misfitOf(
  tokenizer: TextTokenizer,
  { vocabularySize, endTokens }: Pick<DecoderConfig, 'vocabularySize' | 'endTokens'>,
): string | undefined {
  const { size, isPresent } = tokenizer;
  if (!isPresent) return undefined;
  if (size > vocabularySize || vocabularySize > roundedUp(size))
    return `has ${size} tokens, but the model's vocabulary holds ${vocabularySize}`;
  if (endTokens.length > 0 && endTokens.every((token) => token >= size))
    return `has ${size} tokens, and the model's end token ${endTokens[0]} is none of them`;
  return undefined;
}
