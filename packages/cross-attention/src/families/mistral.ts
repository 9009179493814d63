import type { FamilyDescription } from './family-description.js';

/** Mistral 7B and its successors without experts. Its GGUF files carry Llama's name. */
export const mistral: FamilyDescription<'mistral'> = {
  name: 'mistral',
  architecture: 'MistralForCausalLM',
  attentionBias: 'never',
  feedForwardBias: false,
  headNorms: false,
  slidingWindow: 'all-layers',
  omitted: { num_key_value_heads: 8, sliding_window: 4096 },
  gguf: { architectures: ['mistral', 'llama'], pairedRows: true },
};
