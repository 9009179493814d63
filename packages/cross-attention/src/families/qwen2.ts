import type { FamilyDescription } from './family-description.js';

/** Qwen 2 and 2.5. */
export const qwen2: FamilyDescription<'qwen2'> = {
  name: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  attentionBias: 'queries-keys-values',
  feedForwardBias: false,
  headNorms: false,
  slidingWindow: 'named-layers',
  omitted: { num_key_value_heads: 32, sliding_window: 4096, max_window_layers: 28 },
  gguf: { architectures: ['qwen2'], pairedRows: false },
};
