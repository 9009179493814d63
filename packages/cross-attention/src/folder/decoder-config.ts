import { z } from 'zod';
import { decoderFamilies, familyNamed, familyOf, type DecoderFamily } from '../families/families.js';
import type { FamilyDescription } from '../families/family-description.js';

/** How rotary positions are stretched beyond the length a model was first trained on. */
export type RotaryScaling =
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContextLength: number;
    }
  /** Each frequency divided by its own factor, `[headSize / 2]`. */
  | { readonly kind: 'factors'; readonly factors: readonly number[] };

/** Everything that a decoder's graph depends on, one name for all families. Sizes are numbers of elements. */
export interface DecoderConfig {
  readonly family: DecoderFamily;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  /** Width of the gated feed-forward layer. */
  readonly intermediateSize: number;
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads; each serves `heads / keyValueHeads` query heads. */
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Added to the mean square in RMS normalisation. */
  readonly normEpsilon: number;
  readonly rotary: { readonly theta: number; readonly scaling?: RotaryScaling };
  /** The most positions the model was made for. */
  readonly contextLength: number;
  /** The output projection is the embedding matrix. */
  readonly tiedEmbeddings: boolean;
  /** Biases of the query, key and value projections. */
  readonly queryKeyValueBias: boolean;
  /** Bias of the attention's output projection. */
  readonly attentionOutputBias: boolean;
  /** Biases of the three feed-forward projections. */
  readonly feedForwardBias: boolean;
  /** RMS normalisation of each query and key head before rotation (Qwen 3). */
  readonly headNorms: boolean;
  /** Where set, layer `i` with `layers[i]` true attends to the last `size` positions only. */
  readonly slidingWindow?: { readonly size: number; readonly layers: readonly boolean[] };
  readonly beginToken?: number;
  /** Any of these ends an answer. */
  readonly endTokens: readonly number[];
  readonly paddingToken?: number;
}

/** onnxruntime's fused attention, which serves all models, takes heads of a multiple of so many elements. */
export const headSizeMultiple = 16;

/** The most layers that a file may claim: several times the deepest model. */
export const mostLayers = 1024;

/**
 * The most positions that a model has here, and the most that a file may claim: of a model with more, the first are read. The angles of
 * each are in a table, half a gigabyte for so many.
 */
export const mostPositions = 2 ** 20;
export const mostClaimedPositions = 2 ** 24;

const size = z.int().positive();
const token = z.int().nonnegative();
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);

const ropeScaling = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().positive().nullish(),
  factor: z.number().positive().nullish(),
  low_freq_factor: z.number().positive().nullish(),
  high_freq_factor: z.number().positive().nullish(),
  original_max_position_embeddings: size.nullish(),
  short_factor: z.array(z.number().positive()).nullish(),
  long_factor: z.array(z.number().positive()).nullish(),
  attention_factor: z.number().positive().nullish(),
  partial_rotary_factor: z.number().nullish(),
});

const huggingFaceConfig = z.looseObject({
  model_type: z.enum(decoderFamilies),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size.max(mostLayers),
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.enum(['silu', 'swish']).nullish(),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeScaling.nullish(),
  rope_parameters: ropeScaling.nullish(),
  partial_rotary_factor: z.number().nullish(),
  max_position_embeddings: size.max(mostClaimedPositions).transform((claimed) => Math.min(claimed, mostPositions)),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  sliding_window: size.nullish(),
  use_sliding_window: flag,
  max_window_layers: z.int().nonnegative().nullish(),
  layer_types: z.array(z.string()).nullish(),
  bos_token_id: token.nullish(),
  eos_token_id: z.union([token, z.array(token)]).nullish(),
  pad_token_id: token.nullish(),
});
type HuggingFaceConfig = z.infer<typeof huggingFaceConfig>;

/** A `config.json` in Hugging Face's terms as a `DecoderConfig`, or what is wrong with it, one line each. */
export function parseDecoderConfig(json: unknown): { config: DecoderConfig } | { unsupported: string } | { problems: string[] } {
  const named = typeof json === 'object' && json !== null ? (json as Record<string, unknown>).model_type : undefined;
  if (typeof named === 'string' && !familyNamed(named)) {
    return { unsupported: `model_type '${named}' is not supported; supported are ${decoderFamilies.join(', ')}` };
  }
  const omitted = typeof named === 'string' ? familyNamed(named)?.omitted : undefined;
  const parsed = huggingFaceConfig.safeParse(omitted === undefined ? json : { ...omitted, ...(json as object) });
  if (!parsed.success) {
    return { problems: parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`) };
  }
  const hf = parsed.data;
  const family = familyNamed(hf.model_type)!;
  const keyValueHeads = hf.num_key_value_heads ?? hf.num_attention_heads;
  const headSize = hf.head_dim ?? hf.hidden_size / hf.num_attention_heads;
  const problems: string[] = [];
  if (hf.num_attention_heads % keyValueHeads !== 0) {
    const left = 'num_key_value_heads' in (json as object) ? '' : ', which it is where config.json leaves it out';
    problems.push(
      `num_attention_heads ${hf.num_attention_heads} is not a multiple of num_key_value_heads ${keyValueHeads}${left}`,
    );
  }
  if (!Number.isInteger(headSize) || headSize % 2 !== 0)
    problems.push(`a head of ${headSize} elements cannot be rotated; it must be even`);
  for (const id of [hf.bos_token_id, hf.pad_token_id, ...endTokens(hf)]) {
    if (id != null && id >= hf.vocab_size) problems.push(`special token ${id} is outside the vocabulary of ${hf.vocab_size}`);
  }
  const rotary = parseRotary(hf);
  if ('problem' in rotary) problems.push(rotary.problem);
  if ('unsupported' in rotary) return rotary;
  if (problems.length > 0 || 'problem' in rotary) return { problems };
  if (headSize % headSizeMultiple !== 0) {
    const from = hf.head_dim == null ? 'hidden_size / num_attention_heads' : 'head_dim';
    return {
      unsupported: `heads of ${headSize} elements (${from}) are not supported; they must be a multiple of ${headSizeMultiple}`,
    };
  }
  const slidingWindow = parseSlidingWindow(hf, family);
  const statedBias = family.attentionBias === 'where-stated' && hf.attention_bias;
  return {
    config: {
      family: family.name,
      vocabularySize: hf.vocab_size,
      hiddenSize: hf.hidden_size,
      intermediateSize: hf.intermediate_size,
      layers: hf.num_hidden_layers,
      heads: hf.num_attention_heads,
      keyValueHeads,
      headSize,
      normEpsilon: hf.rms_norm_eps,
      rotary,
      contextLength: hf.max_position_embeddings,
      tiedEmbeddings: hf.tie_word_embeddings,
      queryKeyValueBias: statedBias || family.attentionBias === 'queries-keys-values',
      attentionOutputBias: statedBias,
      feedForwardBias: family.feedForwardBias && hf.mlp_bias,
      headNorms: family.headNorms,
      ...(slidingWindow === undefined ? {} : { slidingWindow }),
      ...(hf.bos_token_id == null ? {} : { beginToken: hf.bos_token_id }),
      endTokens: endTokens(hf),
      ...(hf.pad_token_id == null ? {} : { paddingToken: hf.pad_token_id }),
    },
  };
}

/** The other way round: a `config.json` that transformers and transformers.js open, in float32. */
export function toHuggingFaceConfig(config: DecoderConfig): Record<string, unknown> {
  const family = familyOf(config);
  const { scaling } = config.rotary;
  const { slidingWindow } = config;
  return {
    architectures: [family.architecture],
    model_type: config.family,
    vocab_size: config.vocabularySize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headSize,
    hidden_act: 'silu',
    rms_norm_eps: config.normEpsilon,
    rope_theta: config.rotary.theta,
    rope_scaling: scaling === undefined ? null : huggingFaceScaling(scaling, config),
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tiedEmbeddings,
    attention_bias: config.queryKeyValueBias || family.attentionBias === 'queries-keys-values',
    ...(family.feedForwardBias ? { mlp_bias: config.feedForwardBias } : {}),
    sliding_window: slidingWindow?.size ?? null,
    ...(family.slidingWindow === 'named-layers'
      ? {
          use_sliding_window: slidingWindow !== undefined,
          layer_types: Array.from({ length: config.layers }, (_, i) =>
            slidingWindow?.layers[i] ? 'sliding_attention' : 'full_attention',
          ),
        }
      : {}),
    bos_token_id: config.beginToken ?? null,
    eos_token_id: config.endTokens.length === 1 ? config.endTokens[0] : config.endTokens,
    pad_token_id: config.paddingToken ?? null,
    torch_dtype: 'float32',
    use_cache: true,
    'transformers.js_config': { dtype: 'fp32' },
  };
}

function huggingFaceScaling(scaling: RotaryScaling, config: DecoderConfig): Record<string, unknown> {
  switch (scaling.kind) {
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFrequencyFactor,
        high_freq_factor: scaling.highFrequencyFactor,
        original_max_position_embeddings: scaling.originalContextLength,
      };
    case 'factors':
      // The same factors for short and long texts, and attention as it is.
      return {
        rope_type: 'longrope',
        short_factor: scaling.factors,
        long_factor: scaling.factors,
        attention_factor: 1,
        original_max_position_embeddings: config.contextLength,
      };
    default:
      return scaling satisfies never;
  }
}

/**
 * Every tensor that a decoder of this config has, with its shape (`[out, in]` for projections), by Hugging Face's names. With tied
 * embeddings there is no `lm_head.weight`.
 */
export function decoderTensorShapes(config: DecoderConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, vocabularySize, headSize } = config;
  const queries = config.heads * headSize;
  const keys = config.keyValueHeads * headSize;
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [vocabularySize, hiddenSize]]]);
  const projection = (name: string, output: number, input: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [output, input]);
    if (bias) shapes.set(`${name}.bias`, [output]);
  };
  for (let i = 0; i < config.layers; i++) {
    const layer = `model.layers.${i}`;
    shapes.set(`${layer}.input_layernorm.weight`, [hiddenSize]);
    projection(`${layer}.self_attn.q_proj`, queries, hiddenSize, config.queryKeyValueBias);
    projection(`${layer}.self_attn.k_proj`, keys, hiddenSize, config.queryKeyValueBias);
    projection(`${layer}.self_attn.v_proj`, keys, hiddenSize, config.queryKeyValueBias);
    projection(`${layer}.self_attn.o_proj`, hiddenSize, queries, config.attentionOutputBias);
    if (config.headNorms) {
      shapes.set(`${layer}.self_attn.q_norm.weight`, [headSize]);
      shapes.set(`${layer}.self_attn.k_norm.weight`, [headSize]);
    }
    shapes.set(`${layer}.post_attention_layernorm.weight`, [hiddenSize]);
    projection(`${layer}.mlp.gate_proj`, intermediateSize, hiddenSize, config.feedForwardBias);
    projection(`${layer}.mlp.up_proj`, intermediateSize, hiddenSize, config.feedForwardBias);
    projection(`${layer}.mlp.down_proj`, hiddenSize, intermediateSize, config.feedForwardBias);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set('lm_head.weight', [vocabularySize, hiddenSize]);
  return shapes;
}

function endTokens(hf: HuggingFaceConfig): number[] {
  if (hf.eos_token_id == null) return [];
  return Array.isArray(hf.eos_token_id) ? hf.eos_token_id : [hf.eos_token_id];
}

function parseRotary(hf: HuggingFaceConfig): DecoderConfig['rotary'] | { unsupported: string } | { problem: string } {
  const scaling = hf.rope_scaling ?? hf.rope_parameters;
  const part = hf.partial_rotary_factor ?? scaling?.partial_rotary_factor ?? 1;
  if (part !== 1) return { unsupported: `heads of which a part of ${part} is rotated (partial_rotary_factor) are not supported` };
  const theta = hf.rope_theta ?? hf.rope_parameters?.rope_theta ?? 10_000;
  const kind = scaling?.rope_type ?? scaling?.type ?? 'default';
  if (scaling == null || kind === 'default') return { theta };
  if (kind === 'longrope') return longRope(hf, theta, scaling);
  if (kind !== 'linear' && kind !== 'llama3') {
    return { unsupported: `rotary scaling '${kind}' is not supported; supported are default, linear, llama3` };
  }
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = scaling;
  if (factor == null) return { problem: `rope_scaling of type ${kind} needs a factor` };
  if (kind === 'linear') return { theta, scaling: { kind, factor } };
  if (low == null || high == null || original == null) {
    return {
      problem: 'rope_scaling of type llama3 needs low_freq_factor, high_freq_factor and original_max_position_embeddings',
    };
  }
  return {
    theta,
    scaling: { kind, factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength: original },
  };
}

/** LongRoPE is read where it has one set of factors: for texts of every length the same. */
function longRope(
  hf: HuggingFaceConfig,
  theta: number,
  { short_factor: short, long_factor: long, attention_factor: attention }: z.infer<typeof ropeScaling>,
): DecoderConfig['rotary'] | { unsupported: string } | { problem: string } {
  if (short == null || long == null) return { problem: 'rope_scaling of type longrope needs short_factor and long_factor' };
  if (attention !== 1 || short.length !== long.length || short.some((factor, i) => factor !== long[i]))
    return { unsupported: 'rotary scaling of type longrope is supported with equal factors and an attention_factor of 1 alone' };
  const half = (hf.head_dim ?? hf.hidden_size / hf.num_attention_heads) / 2;
  if (short.length !== half) return { problem: `rope_scaling has ${short.length} factors for ${half} frequencies` };
  return { theta, scaling: { kind: 'factors', factors: short } };
}

function parseSlidingWindow(
  hf: HuggingFaceConfig,
  { slidingWindow }: Pick<FamilyDescription, 'slidingWindow'>,
): DecoderConfig['slidingWindow'] {
  // A window as long as the context never hides anything.
  if (hf.sliding_window == null || hf.sliding_window >= hf.max_position_embeddings || slidingWindow === 'none') return undefined;
  const layers = Array.from({ length: hf.num_hidden_layers }, (_, i) => {
    if (slidingWindow === 'all-layers') return true;
    if (hf.layer_types != null) return hf.use_sliding_window && hf.layer_types[i] === 'sliding_attention';
    return hf.use_sliding_window && i >= (hf.max_window_layers ?? 0);
  });
  return layers.includes(true) ? { size: hf.sliding_window, layers } : undefined;
}
