import type * as transformers from '@huggingface/transformers';

/**
 * In what a family of decoders differs from the others: all are RMS norms, rotary positions, grouped heads and gated feed-forward layers
 * in the order of Llama. Everything that depends on the family is read from here; see docs/decoders.md.
 */
export interface FamilyDescription<Name extends string = string> {
  /** `model_type` in `config.json`. */
  readonly name: Name;
  /** The class in transformers and transformers.js. */
  readonly architecture: Exclude<Extract<keyof typeof transformers, `${string}ForCausalLM`>, 'AutoModelForCausalLM'>;
  /**
   * Biases of the attention's projections: none; in all four where `attention_bias` says so; or always in those of queries, keys and
   * values and never in the output's.
   */
  readonly attentionBias: 'never' | 'where-stated' | 'queries-keys-values';
  /** Whether `mlp_bias` may give biases to the feed-forward projections. */
  readonly feedForwardBias: boolean;
  /** RMS normalisation of each query and key head before rotation. */
  readonly headNorms: boolean;
  /** Layers that `sliding_window` holds for: none; all; or those that `layer_types` or `max_window_layers` name, where `use_sliding_window` is set. */
  readonly slidingWindow: 'none' | 'all-layers' | 'named-layers';
  /** What a `config.json` stands for that leaves a key out, where transformers fills in another value than for a Llama. */
  readonly omitted?: {
    readonly num_key_value_heads?: number;
    readonly head_dim?: number;
    readonly sliding_window?: number;
    readonly max_window_layers?: number;
  };
  readonly gguf: {
    /** `general.architecture`. Where two families share one, a sliding window tells them apart. */
    readonly architectures: readonly string[];
    /** The rows of query and key projections are stored as pairs that rotate together, not as two halves of a head. */
    readonly pairedRows: boolean;
  };
}
