import { expect, test } from '@jest/globals';
import { tokensThatFit } from '../src/adaptation/tokens-per-part.js';
import { parseDecoderConfig, type DecoderConfig } from '../src/folder/decoder-config.js';

function decoder(sizes: Record<string, number>): DecoderConfig {
  const common = { model_type: 'llama', architectures: ['LlamaForCausalLM'], rms_norm_eps: 1e-5, tie_word_embeddings: true };
  return (parseDecoderConfig({ ...common, ...sizes }) as { config: DecoderConfig }).config;
}

/** The shape of SmolLM2-135M. */
const large = decoder({
  ...{ vocab_size: 49152, hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30 },
  ...{ num_attention_heads: 9, num_key_value_heads: 3, max_position_embeddings: 8192 },
});
const small = decoder({
  ...{ vocab_size: 4096, hidden_size: 128, intermediate_size: 384, num_hidden_layers: 4 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 4096 },
});

test('a batch of short prompts of a large model runs at once, one of long prompts row by row', () => {
  expect(tokensThatFit(large, 48)).toBeGreaterThan(8 * 48);
  expect(tokensThatFit(large, 180)).toBeGreaterThan(2 * 180);
  expect(tokensThatFit(large, 180)).toBeLessThan(8 * 180);
  expect(tokensThatFit(large, 700)).toBeLessThan(2 * 700);
});

test('what a small model can hold is bounded by what makes it faster', () => {
  expect(tokensThatFit(small, 48)).toBe(8192);
  expect(tokensThatFit(small, 400)).toBe(8192);
});

test('longer rows leave room for fewer tokens, since each reads all that are before it', () => {
  expect(tokensThatFit(large, 2000)).toBeLessThan(tokensThatFit(large, 200));
});
