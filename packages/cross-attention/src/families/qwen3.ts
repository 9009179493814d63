import type { FamilyDescription } from './family-description.js';

/** The dense models of Qwen 3. */
export const qwen3: FamilyDescription<'qwen3'> = {
  name: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  attentionBias: 'where-stated',
  feedForwardBias: false,
  headNorms: true,
  slidingWindow: 'named-layers',
  gguf: { architectures: ['qwen3'], pairedRows: false },
};
