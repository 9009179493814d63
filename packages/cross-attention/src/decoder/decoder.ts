import { constant, initialWeights, normal, ones, zeros } from '@user-llm/onnx-autograd';
import type { Initializer } from '@user-llm/onnx-autograd';
import { decoderTensorShapes, headSizeMultiple, mostLayers, mostPositions } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { DecoderWeights } from '../folder/hugging-face.js';

/** A language model: what it looks like, and its weights by Hugging Face's names. */
export interface Decoder {
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
}

/** Sizes of a decoder to be trained from scratch. */
export interface DecoderSizes {
  readonly vocabularySize: number;
  /** Elements of a token's vector. */
  readonly width: number;
  readonly layers: number;
  /** Query heads; `width / heads` is a multiple of 16, as onnxruntime's fused attention needs it. */
  readonly heads: number;
  /** Key and value heads; as many as `heads` by default. */
  readonly keyValueHeads?: number;
  /** Width of the gated feed-forward layer; by default 8/3 of the width, rounded up to a multiple of 16. */
  readonly intermediate?: number;
  /** Most positions of a prompt and its answer. Default 4,096. */
  readonly context?: number;
  /** Base of the rotary frequencies. Default 10,000. */
  readonly rotaryTheta?: number;
  readonly beginToken?: number;
  readonly endTokens?: readonly number[];
  readonly paddingToken?: number;
}

/** The `DecoderConfig` of a Llama with tied embeddings and the given sizes. Throws a `RangeError` when they do not go together. */
export function decoderConfig(sizes: DecoderSizes): DecoderConfig {
  const { vocabularySize, width, layers, heads, keyValueHeads = heads, context = 4096 } = sizes;
  const intermediate = sizes.intermediate ?? Math.ceil((8 * width) / 3 / 16) * 16;
  for (const [name, value] of Object.entries({ vocabularySize, width, layers, heads, keyValueHeads, intermediate, context }))
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`A decoder's ${name} must be a whole number of at least 1, not ${value}.`);
  for (const [name, value, most] of [
    ['layers', layers, mostLayers],
    ['context', context, mostPositions],
  ] as const)
    if (value > most) throw new RangeError(`A decoder's ${name} must be at most ${most}, not ${value}.`);
  if (heads % keyValueHeads !== 0) throw new RangeError(`${heads} heads do not divide by ${keyValueHeads} key and value heads.`);
  const headSize = width / heads;
  if (headSize % headSizeMultiple !== 0)
    throw new RangeError(
      `A width of ${width} gives ${heads} heads ${headSize} elements each; onnxruntime's fused attention needs a multiple of ${headSizeMultiple}.`,
    );
  return {
    family: 'llama',
    vocabularySize,
    hiddenSize: width,
    intermediateSize: intermediate,
    layers,
    heads,
    keyValueHeads,
    headSize,
    normEpsilon: 1e-6,
    rotary: { theta: sizes.rotaryTheta ?? 10_000 },
    contextLength: context,
    tiedEmbeddings: true,
    queryKeyValueBias: false,
    attentionOutputBias: false,
    feedForwardBias: false,
    headNorms: false,
    ...(sizes.beginToken === undefined ? {} : { beginToken: sizes.beginToken }),
    endTokens: sizes.endTokens ?? [],
    ...(sizes.paddingToken === undefined ? {} : { paddingToken: sizes.paddingToken }),
  };
}

/** A decoder of the given sizes with seeded weights, to be trained from scratch. */
export function createDecoder(sizes: DecoderSizes, seed: number): Decoder {
  const config = decoderConfig(sizes);
  return { config, weights: initialDecoderWeights(config, seed) };
}

/** Seeded first weights of a config. Each tensor depends on the seed and its own name alone. */
export function initialDecoderWeights(config: DecoderConfig, seed: number): DecoderWeights {
  const parameters = Array.from(decoderTensorShapes(config), ([name, shape]) => ({
    name,
    shape,
    initializer: decoderInitializer(config, name),
  }));
  return initialWeights(parameters, seed);
}

/**
 * How a tensor starts: norms at 1, biases at 0, matrices Gaussian with a deviation that goes with the square root of their input, and
 * what is added to the residual stream smaller the more layers add to it (GPT-2).
 */
export function decoderInitializer(config: DecoderConfig, name: string): Initializer {
  if (name.endsWith('norm.weight')) return ones();
  if (name.endsWith('.bias')) return zeros();
  if (name === 'model.embed_tokens.weight' || name === 'lm_head.weight') return normal(0.02);
  const residual = 1 / Math.sqrt(2 * config.layers);
  if (name.endsWith('o_proj.weight')) return normal((0.6 * residual) / Math.sqrt(config.heads * config.headSize));
  if (name.endsWith('down_proj.weight')) return normal((0.6 * residual) / Math.sqrt(config.intermediateSize));
  if (name.endsWith('_proj.weight')) return normal(0.6 / Math.sqrt(config.hiddenSize));
  return constant(0);
}

/** Number of weights of a config. */
export function decoderParameterCount(config: DecoderConfig): number {
  let count = 0;
  for (const shape of decoderTensorShapes(config).values()) count += shape.reduce((product, size) => product * size, 1);
  return count;
}
