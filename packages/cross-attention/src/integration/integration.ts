import { GraphBuilder, initialWeights, toOnnx } from '@user-llm/onnx-autograd';
import type { Tensor, Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import type { DecoderHooks } from '../decoder/decoder-graph.js';
import type { InferenceAddition } from '../decoder/inference-graph.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { BlindPrefix } from './blind-prefix.js';

/** What a user is to a language model: `K` vectors of width `D`. */
export interface UserShape {
  readonly userTokens: number;
  readonly userWidth: number;
}

/** What an integration is built for. */
export interface IntegrationContext {
  readonly builder: GraphBuilder;
  readonly config: DecoderConfig;
  readonly user: UserShape;
  /** Standard deviation of the token vectors, for first weights in proportion. Default 0.02. */
  readonly embeddingDeviation?: number;
}

/** The parts of an integration inside one graph. A reading is a user as the decoder's layers take it. */
export interface IntegrationGraph {
  /** How many tensors a reading is. */
  readonly readingTensors: number;
  /** User tokens `[B, K, D]` to a reading; rows whose `present` `[B]` is 0 read nothing. */
  read(tokens: Tensor, present?: Tensor): readonly Tensor[];
  /**
   * What the decoder's vectors take from user tokens `[B, K, D]`, at first and on the whole: `[B, hidden]`. It is what contrastive alignment
   * holds against a text.
   */
  taken(tokens: Tensor): Tensor;
  /** A reading as one tensor `[B, ...packedShape]`: the output of `user.onnx`. */
  pack(reading: readonly Tensor[]): Tensor;
  unpack(packed: Tensor): readonly Tensor[];
  /**
   * What changes in the decoder. The reading's rows are the decoder's, or one for all of them. Where `reads` [B or 1, S, 1] is 0, the
   * token does not read the user; it is given where `readsEverywhere`.
   */
  hooks(reading: readonly Tensor[], reads?: Tensor): DecoderHooks;
}

/** One way for a decoder to read users, `gatedCrossAttention` or `softPrompt`, or several at once. */
export interface Integration {
  readonly kind: 'cross-attention' | 'soft-prompt' | 'combined';
  /** What `integrationOf` makes it from again. JSON values. */
  readonly settings: Readonly<Record<string, number>>;
  /** Those of the settings that say which weights there are; the others are about their first values. */
  readonly layout: Readonly<Record<string, number>>;
  /** The ways that are combined in it; absent for one by itself. */
  readonly parts?: readonly Integration[];
  /** Whether a parameter is of this integration, by its name. */
  owns(parameter: string): boolean;
  /** Whether every token reads the user by itself; otherwise the user stands in the prompt, and what is before does not read it. */
  readonly readsEverywhere: boolean;
  /** How many placeholder tokens stand for a user in the prompt: ids V, V + 1, ... */
  placeholders(user: UserShape): number;
  /** Shape of one user's packed reading. */
  packedShape(config: DecoderConfig, user: UserShape): readonly number[];
  /** Floating-point operations of the matrix products that the decoder does more, for `tokens` tokens. */
  flops(config: DecoderConfig, user: UserShape, tokens: number): number;
  build(context: IntegrationContext): IntegrationGraph;
}

/** The ways in that an integration consists of. */
export const partsOf = (integration: Integration): readonly Integration[] => integration.parts ?? [integration];

/** Seeded first weights of an integration for a decoder. */
export function initialIntegrationWeights(integration: Integration, decoder: Decoder, user: UserShape, seed: number): Weights {
  const builder = GraphBuilder.create();
  const table = decoder.weights.get('model.embed_tokens.weight')!.data as Float32Array;
  const embeddingDeviation = Math.sqrt(table.reduce((sum, value) => sum + value * value, 0) / table.length);
  const built = integration.build({ builder, config: decoder.config, user, embeddingDeviation });
  // The graph is made for its parameters.
  const hooks = built.hooks(built.read(builder.input('tokens', ['rows', user.userTokens, user.userWidth])));
  const x = builder.input('x', ['rows', 'text', decoder.config.hiddenSize]);
  for (let layer = 0; layer < decoder.config.layers; layer++) hooks.beforeLayer?.(layer, x);
  return initialWeights(builder.parameters.values(), seed);
}

/** `user.onnx`: `user_tokens` [batch_size, K, D] to `user_embeddings` [batch_size, ...packed]. */
export function userModel(integration: Integration, config: DecoderConfig, user: UserShape, weights: Weights): Uint8Array {
  const builder = GraphBuilder.create();
  const built = integration.build({ builder, config, user });
  const tokens = builder.input('user_tokens', ['batch_size', user.userTokens, user.userWidth]);
  return toOnnx({ outputs: { user_embeddings: built.pack(built.read(tokens)) }, weights }).bytes;
}

/** Whether a model's graph is told where the blind prefix ends. */
export const takesBlindLength = ({ readsEverywhere }: Integration, blindPrefix: BlindPrefix | undefined): boolean =>
  readsEverywhere && blindPrefix !== undefined;

/**
 * What `inferenceModel` adds for an integration: the input `user_embeddings` [user_batch, ...packed], one user for all rows or one each,
 * and where a blind prefix has to be kept from it, `blind_length` int64: so many tokens at the beginning of each row do not read.
 */
export const userAddition =
  (integration: Integration, config: DecoderConfig, user: UserShape, blindPrefix?: BlindPrefix): InferenceAddition =>
  (builder, positions) => {
    const built = integration.build({ builder, config, user });
    const packed = builder.input('user_embeddings', ['user_batch', ...integration.packedShape(config, user)]);
    if (!takesBlindLength(integration, blindPrefix)) return built.hooks(built.unpack(packed));
    const blind = builder.input('blind_length', [], 'int64').cast('int32');
    return built.hooks(built.unpack(packed), readsFrom(positions(), blind));
  };

/** 1 for the positions [B or 1, S] that stand behind the blind ones, 0 for these; [B or 1, S, 1]. */
export const readsFrom = (positions: Tensor, blind: Tensor): Tensor =>
  positions.greaterOrEqual(blind).cast('float32').unsqueeze(-1);
