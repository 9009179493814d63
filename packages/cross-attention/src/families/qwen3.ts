import type { FamilyDescription } from './family-description.js';

/** The dense models of Qwen 3. */
export const qwen3: FamilyDescription<'qwen3'> = {
  name: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  attentionBias: 'where-stated',
  feedForwardBias: false,
  headNorms: true,
  slidingWindow: 'named-layers',
  omitted: { num_key_value_heads: 32, head_dim: 128, sliding_window: 4096, max_window_layers: 28 },
  gguf: { architectures: ['qwen3'], pairedRows: false },
};
