import { attention, concat, constant, float, normal, ones } from '@user-llm/onnx-autograd';
import type { Tensor } from '@user-llm/onnx-autograd';
import { checkCount } from '../check-count.js';
import { checkNames } from '../check-names.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Integration, IntegrationContext, IntegrationGraph } from './integration.js';

export interface GatedCrossAttentionOptions {
  /** Layers n, 2n, 3n, ... (counted from 1) read the user before their self-attention. */
  readonly every: number;
  /** Heads of the cross-attention; by default grouped heads like the base model's. */
  readonly heads?: number;
  /**
   * How far the gates are open at first: the value of tanh, in [0, 1). 0, the default, gives the base model's logits bit for bit. A
   * base that is trained from scratch learns faster from about 0.5, and item tokens can be fitted to any only behind open gates. Gates that
   * a model has already stay as they are.
   */
  readonly gate?: number;
}

const prefix = 'cross_attention';

/**
 * Gated cross-attention (Ning et al., arXiv 2402.13598, section 3.2; the gate of Alayrac et al., arXiv 2204.14198): before every n-th
 * layer, x + tanh(gate) * attention(x, user). Keys and values depend on the user alone and are computed once per user.
 */
export function gatedCrossAttention(options: GatedCrossAttentionOptions): Integration {
  checkNames(options, ['every', 'heads', 'gate'], 'gatedCrossAttention.');
  const { every, heads, gate = 0 } = options;
  checkCount('every', every);
  if (heads !== undefined) checkCount('heads', heads);
  if (!(gate >= 0 && gate < 1)) throw new RangeError(`A gate opens from 0 up to, not including, 1; ${gate} is outside.`);
  const headsOf = (config: DecoderConfig) => ({ heads: heads ?? config.heads, keyValueHeads: heads ?? config.keyValueHeads });
  const layersOf = (config: DecoderConfig) => {
    const layers = Array.from({ length: config.layers }, (_, i) => i).filter((i) => (i + 1) % every === 0);
    if (layers.length === 0)
      throw new RangeError(`Cross-attention before every ${every}th layer reaches none of a decoder's ${config.layers} layers.`);
    return layers;
  };
  const layout = { every, ...(heads === undefined ? {} : { heads }) };
  return {
    kind: 'cross-attention',
    settings: { ...layout, gate },
    layout,
    owns: (parameter) => parameter.startsWith(`${prefix}.`),
    readsEverywhere: true,
    placeholders: () => 0,
    packedShape: (config, { userTokens }) => [
      layersOf(config).length,
      2,
      headsOf(config).keyValueHeads,
      userTokens,
      config.headSize,
    ],
    flops: (config, { userTokens }, tokens) =>
      4 * layersOf(config).length * tokens * headsOf(config).heads * config.headSize * (config.hiddenSize + userTokens),
    build: (context) => new CrossAttentionGraph(context, layersOf(context.config), headsOf(context.config), gate),
  };
}

class CrossAttentionGraph implements IntegrationGraph {
  readonly #width: number;

  constructor(
    private readonly context: IntegrationContext,
    private readonly layers: readonly number[],
    private readonly counts: { readonly heads: number; readonly keyValueHeads: number },
    private readonly gate: number,
  ) {
    this.#width = counts.heads * context.config.headSize;
  }

  #parameter(name: string, shape: readonly number[], init = normal(1 / Math.sqrt(shape.at(-1)!))): Tensor {
    return this.context.builder.parameter(`${prefix}.${name}`, shape, init);
  }

  #normalized(tokens: Tensor): Tensor {
    const { config, user } = this.context;
    return tokens.rmsNorm(this.#parameter('user_norm.weight', [user.userWidth], ones()), config.normEpsilon);
  }

  /** A layer's keys or values, heads side by side: [..., D] to [..., key/value heads * head size]. */
  #projected(name: string, normalized: Tensor): Tensor {
    const width = this.counts.keyValueHeads * this.context.config.headSize;
    return normalized.matmul(this.#parameter(name, [width, this.context.user.userWidth]), { transposeB: true });
  }

  #output(layer: number, x: Tensor): Tensor {
    return x.matmul(this.#parameter(`layers.${layer}.o_proj.weight`, [this.context.config.hiddenSize, this.#width]), {
      transposeB: true,
    });
  }

  get readingTensors(): number {
    return 2 * this.layers.length;
  }

  /** Keys and values of each layer in turn: `[B, key/value heads, K, head size]`. */
  read(tokens: Tensor, present?: Tensor): readonly Tensor[] {
    const { config, user } = this.context;
    const { keyValueHeads } = this.counts;
    const rows = tokens.shape[0];
    const normalized = this.#normalized(tokens);
    const project = (name: string) => {
      const heads = this.#projected(name, normalized).reshape([rows, user.userTokens, keyValueHeads, config.headSize]);
      const split = heads.transpose([0, 2, 1, 3]);
      return present === undefined ? split : split.mul(present.reshape([rows, 1, 1, 1]));
    };
    return this.layers.flatMap((layer) => [project(`layers.${layer}.k_proj.weight`), project(`layers.${layer}.v_proj.weight`)]);
  }

  /** What attention adds where it looks at all K tokens alike and its gates are open: the mean over the layers. */
  taken(tokens: Tensor): Tensor {
    const { heads, keyValueHeads } = this.counts;
    const { headSize } = this.context.config;
    const [rows] = tokens.shape;
    const average = this.#normalized(tokens).mean(1);
    const added = this.layers.map((layer) => {
      const values = this.#projected(`layers.${layer}.v_proj.weight`, average).reshape([rows, keyValueHeads, 1, headSize]);
      const ofHeads = concat(Array<Tensor>(heads / keyValueHeads).fill(values), 2);
      return this.#output(layer, ofHeads.reshape([rows, this.#width]));
    });
    return added.reduce((sum, one) => sum.add(one)).mul(1 / added.length);
  }

  pack(reading: readonly Tensor[]): Tensor {
    const [rows, ...rest] = reading[0].shape;
    const all = concat(
      reading.map((part) => part.unsqueeze(1)),
      1,
    );
    return all.reshape([rows, this.layers.length, 2, ...rest]);
  }

  unpack(packed: Tensor): readonly Tensor[] {
    const [rows, , , ...rest] = packed.shape;
    const flat = packed.reshape([rows, this.readingTensors, ...rest]);
    return flat
      .split(
        1,
        Array.from({ length: this.readingTensors }, () => 1),
      )
      .map((part) => part.squeeze(1));
  }

  hooks(reading: readonly Tensor[], reads?: Tensor) {
    return {
      beforeLayer: (layer: number, x: Tensor): Tensor => {
        const at = this.layers.indexOf(layer);
        if (at < 0) return x;
        const read = this.#attend(layer, x, reading[2 * at], reading[2 * at + 1]);
        return x.add(reads === undefined ? read : read.mul(reads));
      },
    };
  }

  #attend(layer: number, x: Tensor, keys: Tensor, values: Tensor): Tensor {
    const { headSize, hiddenSize, normEpsilon } = this.context.config;
    const { heads, keyValueHeads } = this.counts;
    const [rows, positions] = x.shape;
    const name = `layers.${layer}`;
    const read = x.rmsNorm(this.#parameter(`${name}.norm.weight`, [hiddenSize], ones()), normEpsilon);
    const queries = read.matmul(this.#parameter(`${name}.q_proj.weight`, [this.#width, hiddenSize]), { transposeB: true });
    const split = queries.reshape([rows, positions, heads, headSize]).transpose([0, 2, 1, 3]);
    // Heads that share keys are stacked along the positions, so that keys are never repeated.
    const stacked = split.reshape([rows, keyValueHeads, -1, headSize]);
    const attended =
      rows === keys.shape[0] ? attention(stacked, keys, values) : broadcastAttention(stacked, keys, values, headSize);
    const merged = attended.reshape(split.shape).transpose([0, 2, 1, 3]).reshape(queries.shape);
    const output = this.#output(layer, merged);
    const gate = this.#parameter(`${name}.gate`, [1], constant(Math.atanh(this.gate)));
    return output.mul(gate.tanh());
  }
}

/** Attention where one user stands for all rows: known when the graph runs, so the products are spelled out. */
function broadcastAttention(queries: Tensor, keys: Tensor, values: Tensor, headSize: number): Tensor {
  const product = (a: Tensor, b: Tensor, transB: number, alpha: number, width: Tensor['shape'][number]) =>
    a.graph.operator('FusedMatMul', [a, b], {
      domain: 'com.microsoft',
      attributes: { transA: 0, transB, alpha: float(alpha) },
      outputs: [{ dtype: 'float32', shape: [...a.shape.slice(0, -1), width] }],
    })[0];
  const weights = product(queries, keys, 1, 1 / Math.sqrt(headSize), keys.shape[2]).softmax();
  return product(weights, values, 0, 1, headSize);
}
