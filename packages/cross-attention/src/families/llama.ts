import type { FamilyDescription } from './family-description.js';

/** Llama 1 to 3, SmolLM2, TinyLlama and others. */
export const llama: FamilyDescription<'llama'> = {
  name: 'llama',
  architecture: 'LlamaForCausalLM',
  attentionBias: 'where-stated',
  feedForwardBias: true,
  headNorms: false,
  slidingWindow: 'none',
  gguf: { architectures: ['llama'], pairedRows: true },
};
