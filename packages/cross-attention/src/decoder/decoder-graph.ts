import { float, recompute } from '@user-llm/onnx-autograd';
import type { GraphBuilder, Tensor } from '@user-llm/onnx-autograd';
import { decoderTensorShapes } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { decoderInitializer } from './decoder.js';

const embeddingName = 'model.embed_tokens.weight';

/** What may be added to a decoder, in the training graph and the inference graph alike. */
export interface DecoderHooks {
  /** Changes the vectors of the tokens, `[B, S, hidden]`; `ids` may hold ids past the vocabulary. */
  embed?(ids: Tensor, embedded: Tensor): Tensor;
  /** Changes what goes into a layer, `[B, S, hidden]`. */
  beforeLayer?(layer: number, x: Tensor): Tensor;
  /** Changes the output `y` of a projection of `x`; `name` is the projection's, for example `model.layers.0.self_attn.q_proj`. */
  project?(name: string, x: Tensor, y: Tensor): Tensor;
}

/** A decoder's matrices in another form than float32 parameters; undefined for a matrix that is a parameter after all. */
export interface DecoderMatrices {
  /** x W^T for the matrices `[out, in]` of these names, which may become one product. */
  products(names: readonly string[], x: Tensor): Tensor[] | undefined;
  /** The matrix's rows of these ids. */
  rows(name: string, ids: Tensor): Tensor | undefined;
}

/** x W^T of any number of rows, which need not be known: for inference, where gradients are not asked for. */
export const productWithTransposed = (x: Tensor, matrix: Tensor): Tensor =>
  x.graph.operator('FusedMatMul', [x, matrix], {
    domain: 'com.microsoft',
    attributes: { transA: 0, transB: 1, alpha: float(1) },
    outputs: [{ dtype: 'float32', shape: [...x.shape.slice(0, -1), matrix.shape[0]] }],
  })[0];

/** The hooks of several additions, one after the other. */
export function combineHooks(all: readonly DecoderHooks[]): DecoderHooks {
  return {
    embed: (ids, embedded) => all.reduce((value, hooks) => hooks.embed?.(ids, value) ?? value, embedded),
    beforeLayer: (layer, x) => all.reduce((value, hooks) => hooks.beforeLayer?.(layer, value) ?? value, x),
    project: (name, x, y) => all.reduce((value, hooks) => hooks.project?.(name, x, value) ?? value, y),
  };
}

/**
 * Self-attention of one layer. Queries `[B, S, heads * headSize]`, keys and values `[B, S, keyValueHeads * headSize]`, not yet rotated;
 * the result is `[B, S, heads * headSize]`. Training and inference differ in this alone.
 */
export type SelfAttention = (layer: number, queries: Tensor, keys: Tensor, values: Tensor) => Tensor;

/**
 * The one description of a decoder: from token vectors to the normalised output of the last layer, for all families (RMS norms, gated
 * feed-forward layers, grouped heads, with the biases and head norms that the config asks for).
 */
export class DecoderGraph {
  readonly #shapes: ReadonlyMap<string, readonly number[]>;

  constructor(
    readonly builder: GraphBuilder,
    readonly config: DecoderConfig,
    private readonly hooks: DecoderHooks = {},
    private readonly matrices?: DecoderMatrices,
  ) {
    this.#shapes = decoderTensorShapes(config);
  }

  parameter(name: string): Tensor {
    const shape = this.#shapes.get(name);
    if (shape === undefined) throw new Error(`internal: a decoder has no tensor '${name}'`);
    return this.builder.parameter(name, shape, decoderInitializer(this.config, name));
  }

  /** The output matrix `[V, hidden]`. */
  get head(): Tensor {
    return this.parameter(this.#headName);
  }

  get #headName(): string {
    return this.config.tiedEmbeddings ? embeddingName : 'lm_head.weight';
  }

  /** Logits `[..., V]` of what `hidden` gives, for inference: not differentiable. */
  logits(hidden: Tensor): Tensor {
    return this.matrices?.products([this.#headName], hidden)?.[0] ?? productWithTransposed(hidden, this.head);
  }

  /** Vectors of token ids `[B, S]`: `[B, S, hidden]`. Ids past the vocabulary are the hooks' own. */
  embed(ids: Tensor): Tensor {
    const { embed } = this.hooks;
    const rows = (of: Tensor) => this.matrices?.rows(embeddingName, of) ?? this.parameter(embeddingName).gather(of);
    return embed === undefined ? rows(ids) : embed(ids, rows(ids.minimum(this.config.vocabularySize - 1)));
  }

  /**
   * From token vectors to what the head reads: `[B, S, hidden]` both. With `recomputed`, a layer's inner values are made again for its
   * gradient, so that a training step holds those of one layer at a time.
   */
  hidden(embedded: Tensor, attention: SelfAttention, { recomputed = false }: { readonly recomputed?: boolean } = {}): Tensor {
    let x = embedded;
    for (let layer = 0; layer < this.config.layers; layer++) {
      const segment = (input: Tensor) => this.#layer(layer, input, attention);
      x = recomputed ? recompute([x], segment) : segment(x);
    }
    return this.#norm('model.norm', x);
  }

  #layer(layer: number, input: Tensor, attention: SelfAttention): Tensor {
    const { config } = this;
    const name = `model.layers.${layer}`;
    let x = this.hooks.beforeLayer?.(layer, input) ?? input;
    const read = this.#norm(`${name}.input_layernorm`, x);
    const [queries, keys, values] = this.#projectAll(
      ['q', 'k', 'v'].map((part) => `${name}.self_attn.${part}_proj`),
      read,
      config.queryKeyValueBias,
    );
    const normed = (part: string, y: Tensor, heads: number) =>
      config.headNorms ? this.#headNorm(`${name}.self_attn.${part}_norm`, y, heads) : y;
    const attended = attention(layer, normed('q', queries, config.heads), normed('k', keys, config.keyValueHeads), values);
    x = x.add(this.#project(`${name}.self_attn.o_proj`, attended, config.attentionOutputBias));
    const fed = this.#norm(`${name}.post_attention_layernorm`, x);
    const [gate, up] = this.#projectAll([`${name}.mlp.gate_proj`, `${name}.mlp.up_proj`], fed, config.feedForwardBias);
    return x.add(this.#project(`${name}.mlp.down_proj`, gate.silu().mul(up), config.feedForwardBias));
  }

  #norm(name: string, x: Tensor): Tensor {
    return x.rmsNorm(this.parameter(`${name}.weight`), this.config.normEpsilon);
  }

  #headNorm(name: string, x: Tensor, heads: number): Tensor {
    const [rows, positions] = x.shape;
    return this.#norm(name, x.reshape([rows, positions, heads, this.config.headSize])).reshape(x.shape);
  }

  #project(name: string, x: Tensor, bias: boolean): Tensor {
    return this.#projectAll([name], x, bias)[0];
  }

  /** Several projections of one tensor. */
  #projectAll(names: readonly string[], x: Tensor, bias: boolean): Tensor[] {
    const matrices = names.map((name) => `${name}.weight`);
    const products =
      this.matrices?.products(matrices, x) ??
      matrices.map((name) => this.matrices?.products([name], x)?.[0] ?? x.matmul(this.parameter(name), { transposeB: true }));
    return names.map((name, i) => {
      const y = bias ? products[i].add(this.parameter(`${name}.bias`)) : products[i];
      return this.hooks.project?.(name, x, y) ?? y;
    });
  }
}
