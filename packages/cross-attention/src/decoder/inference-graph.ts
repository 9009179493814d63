import { GraphBuilder, concat, toOnnx } from '@user-llm/onnx-autograd';
import type { Dim, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { DecoderGraph } from './decoder-graph.js';
import type { DecoderHooks, SelfAttention } from './decoder-graph.js';
import { WatchedMatrices } from './channel-peaks.js';
import { IntegerMatrices } from './integer-matrices.js';
import type { IntegerOptions } from './integer-matrices.js';
import { LoneTokenPadding } from './lone-token-padding.js';
import { packableMatrix } from './packable-matrix.js';
import type { Precision } from './packable-matrix.js';
import { QuantizedMatrices } from './quantized-matrices.js';
import { rotaryCaches } from './rotary.js';
import type { ServedMatrices } from './served-matrices.js';
import { ValuesInside } from './value-store.js';
import type { ValueStore } from './value-store.js';

/** How a graph computes with its matrices: see `Precision`; with `integers` the layers' products are those of `IntegerMatrices`. */
export type Computation = Precision & { readonly integers?: IntegerOptions };

/**
 * A part of a model that reads users: its extra inputs and hooks, made for the inference graph. `positions` are those of the new tokens
 * in their texts, [B or 1, S] int32.
 */
export type InferenceAddition = (builder: GraphBuilder, positions: () => Tensor) => DecoderHooks;

/**
 * A decoder as transformers.js runs it, one ONNX file with the weights inside. Inputs: `input_ids` [batch_size, sequence_length] int64,
 * `attention_mask` [batch_size, total_sequence_length] int64, `num_logits_to_keep` int64 (0: all positions),
 * `past_key_values.I.key|value` [batch_size, key/value heads, past_sequence_length, head size], and those of the addition. Outputs:
 * `logits` [batch_size, kept, V], `log_normalizers` [batch_size, kept] (the logarithm of each row's sum of exponentials),
 * `last_hidden_state` [batch_size, kept, hidden] (what the logits are made from), `present.I.key|value`, and of the new
 * tokens alone `newest` [batch_size, layers * 2 * key/value heads, sequence_length, head size] (a layer's keys, then its values). Several new tokens on top of a
 * cache are possible for a batch of one only. Weights in the blocks of a GGUF file stay as they are; `computation` says how products with
 * them are computed, and what becomes of other weights, `store` where they are: of values in a file the session needs its folder.
 */
export function inferenceModel(
  config: DecoderConfig,
  weights: Weights,
  addition?: InferenceAddition,
  computation: Computation = {},
  store: ValueStore = new ValuesInside(),
): Uint8Array {
  const builder = GraphBuilder.create();
  const matrices = matricesOf(builder, weights, computation, store);
  const padding = needsPadding(weights, computation) ? new LoneTokenPadding(builder, 'batch_size') : undefined;
  const { graph, hidden, cache } = textGraph(builder, config, addition, matrices, padding);
  const kept = lastPositions(builder, hidden, builder.input('num_logits_to_keep', [], 'int64'));
  return withLogits(graph, kept, { ...cache.outputs, newest: cache.newest() }, weights, store);
}

/**
 * The same decoder, without additions, to see what its layers' products read: the inputs of `inferenceModel` but `num_logits_to_keep`, and
 * outputs that `peaksOf` reads.
 */
export function channelPeaksModel(config: DecoderConfig, weights: Weights, precision: Precision, store: ValueStore): Uint8Array {
  const builder = GraphBuilder.create();
  const watched = new WatchedMatrices(new QuantizedMatrices(builder, weights, precision, store));
  textGraph(builder, config, undefined, watched);
  return toOnnx({ outputs: watched.outputs, ...store.onnx(builder, weights) }).bytes;
}

function matricesOf(builder: GraphBuilder, weights: Weights, { integers, ...precision }: Computation, store: ValueStore) {
  const matrices = new QuantizedMatrices(builder, weights, precision, store);
  return integers === undefined ? matrices : new IntegerMatrices(builder, weights, matrices, store, integers);
}

/** A decoder that reads new tokens of texts behind a cache. */
function textGraph(
  builder: GraphBuilder,
  config: DecoderConfig,
  addition: InferenceAddition | undefined,
  matrices: ServedMatrices,
  padding?: LoneTokenPadding,
): { graph: DecoderGraph; hidden: Tensor; cache: CachedAttention } {
  const ids = builder.input('input_ids', ['batch_size', 'sequence_length'], 'int64');
  const mask = builder.input('attention_mask', ['batch_size', 'total_sequence_length'], 'int64');
  const lengths = mask.sum(1).sub(1).cast('int32');
  const cache = new CachedAttention(builder, config, 'batch_size', lengths, matrices, { padding });
  const positions = () => {
    const count = builder.dims(['sequence_length']).cast('int32');
    return lengths.reshape(['batch_size', 1]).add(builder.range('sequence_length')).sub(count.sub(1));
  };
  const hooks = addition?.(builder, padding === undefined ? positions : () => padding.pad(positions()));
  const graph = new DecoderGraph(builder, config, hooks, matrices);
  const hidden = graph.hidden(graph.embed(padding?.pad(ids) ?? ids), cache.attend);
  return { graph, hidden: padding?.unpad(hidden) ?? hidden, cache };
}

/** Whether a token's numbers would depend on there being others: see `LoneTokenPadding`. */
function needsPadding(weights: Weights, { integers, ...precision }: Computation): boolean {
  if (integers !== undefined || (precision.accuracyLevel ?? 4) !== 4) return false;
  return Array.from(weights).some(([name, weight]) => packableMatrix(name, weight, precision)?.form.bits === 4);
}

/**
 * The same decoder for texts that branch behind one prompt: a batch of one, whose tokens are the ends of the branches and read one cache,
 * that of the prompt and of all branches so far. Inputs: `input_ids` [1, sequence_length] int64, `position_ids` [1, sequence_length]
 * int64, `visible` [1, 1, sequence_length, total_sequence_length] (0 where a token reads a position, far below 0 elsewhere),
 * `visible_window` alike for layers with a sliding window, where there are some, `past_key_values.I.key|value` and those of the addition.
 * Outputs as those of `inferenceModel`, logits of all tokens.
 */
export function branchingModel(
  config: DecoderConfig,
  weights: Weights,
  addition?: InferenceAddition,
  computation: Computation = {},
  store: ValueStore = new ValuesInside(),
): Uint8Array {
  const builder = GraphBuilder.create();
  const ids = builder.input('input_ids', [1, 'sequence_length'], 'int64');
  const positions = builder.input('position_ids', [1, 'sequence_length'], 'int64');
  const biasShape = [1, 1, 'sequence_length', 'total_sequence_length'];
  const bias = builder.input('visible', biasShape);
  const window = hasWindow(config) ? builder.input('visible_window', biasShape) : undefined;
  const lengths = builder.dims(['total_sequence_length']).cast('int32').sub(1);
  const matrices = matricesOf(builder, weights, computation, store);
  const cache = new CachedAttention(builder, config, 1, lengths, matrices, { branches: { positions, bias, window } });
  const graph = new DecoderGraph(
    builder,
    config,
    addition?.(builder, () => positions.cast('int32')),
    matrices,
  );
  const hidden = graph.hidden(graph.embed(ids), cache.attend);
  return withLogits(graph, hidden, { ...cache.outputs, newest: cache.newest() }, weights, store);
}

/** Whether some layers read no further back than a window. */
export const hasWindow = ({ slidingWindow }: DecoderConfig): boolean => slidingWindow?.layers.includes(true) ?? false;

function withLogits(
  graph: DecoderGraph,
  hidden: Tensor,
  cache: Readonly<Record<string, Tensor>>,
  weights: Weights,
  store: ValueStore,
): Uint8Array {
  const logits = graph.logits(hidden);
  // log(sum(exp(x))) = max(x) - log(max(softmax(x))): the softmax is a fast kernel, ReduceLogSumExp is not.
  const normalizers = logits.max(-1).sub(logits.softmax().max(-1).log());
  return toOnnx({
    outputs: { logits, log_normalizers: normalizers, last_hidden_state: hidden, ...cache },
    ...store.onnx(graph.builder, weights),
  }).bytes;
}

/** The last `keep` positions. The cut comes before the product with the head: a long prompt costs one row of logits. */
function lastPositions(builder: GraphBuilder, hidden: Tensor, keep: Tensor): Tensor {
  const [rows, , width] = hidden.shape;
  const end = builder.constant(BigInt64Array.of(2n ** 63n - 1n), [1]);
  const axis = builder.constant([1], [1], 'int64');
  // Minus zero tokens from the end is the beginning: all of them.
  return builder.operator('Slice', [hidden, keep.neg().reshape([1]), end, axis], {
    outputs: [{ dtype: 'float32', shape: [rows, 'logits_length', width] }],
  })[0];
}

/** What branches need beyond plain causality: their tokens' positions, and which of the cache each reads. */
interface Branches {
  readonly positions: Tensor;
  readonly bias: Tensor;
  readonly window: Tensor | undefined;
}

/** onnxruntime's fused attention with its key/value cache. */
class CachedAttention {
  /** The grown cache, by the names of the model's outputs. */
  readonly outputs: Record<string, Tensor> = {};
  readonly #total: Tensor;
  readonly #tables: readonly [cosine: Tensor, sine: Tensor];

  constructor(
    private readonly builder: GraphBuilder,
    private readonly config: DecoderConfig,
    private readonly rows: Dim,
    /** Positions of each row, the new ones included, less one. `[rows]` int32 */
    private readonly lengths: Tensor,
    private readonly matrices: ServedMatrices,
    private readonly options: { readonly branches?: Branches; readonly padding?: LoneTokenPadding | undefined },
  ) {
    const { contextLength, headSize } = config;
    const { cosine, sine } = rotaryCaches(config);
    const shape = [contextLength, headSize / 2];
    this.#tables = [builder.constant(cosine, shape), builder.constant(sine, shape)];
    this.#total = builder.dims(['total_sequence_length']).cast('int32').reshape([]);
  }

  readonly attend: SelfAttention = (layer, queries, keys, values) => {
    const { padding } = this.options;
    // Where one product gave all three, they are read where they are.
    const whole = this.matrices.whole([queries, keys, values]);
    if (padding === undefined) return this.#attend(layer, queries, keys, values, whole);
    const [q, k, v] = [queries, keys, values].map((x) => padding.unpad(x));
    return padding.pad(this.#attend(layer, q, k, v, whole && padding.unpad(whole)));
  };

  #attend(layer: number, queries: Tensor, keys: Tensor, values: Tensor, packed: Tensor | undefined): Tensor {
    const { builder, outputs } = this;
    const { branches } = this.options;
    const { heads, keyValueHeads, headSize, slidingWindow } = this.config;
    const past = [this.rows, keyValueHeads, 'past_sequence_length', headSize];
    const pastKey = builder.input(`past_key_values.${layer}.key`, past);
    const pastValue = builder.input(`past_key_values.${layer}.value`, past);
    const present = { dtype: 'float32', shape: [this.rows, keyValueHeads, 'total_sequence_length', headSize] } as const;
    const isWindow = slidingWindow?.layers[layer] ?? false;
    const cache = [pastKey, pastValue, this.lengths, this.#total];
    const inputs =
      branches === undefined
        ? [...(packed === undefined ? [queries, keys, values] : [packed, null, null]), ...cache, ...this.#tables]
        : [
            this.#rotated(queries, heads, branches),
            this.#rotated(keys, keyValueHeads, branches),
            values,
            ...cache,
            ...[null, null, null],
            isWindow ? branches.window! : branches.bias,
          ];
    const [attended, key, value] = builder.operator('GroupQueryAttention', inputs, {
      domain: 'com.microsoft',
      attributes: {
        num_heads: heads,
        kv_num_heads: keyValueHeads,
        do_rotary: Number(branches === undefined),
        rotary_interleaved: 0,
        // Among branches the order of the cache is not that of the text.
        ...(isWindow && branches === undefined ? { local_window_size: slidingWindow!.size } : {}),
      },
      outputs: [{ dtype: 'float32', shape: queries.shape }, present, present],
    });
    outputs[`present.${layer}.key`] = key;
    outputs[`present.${layer}.value`] = value;
    return attended;
  }

  /** Keys and values of the new tokens alone: `[rows, layers * 2 * key/value heads, sequence_length, head size]`. */
  newest(): Tensor {
    const { builder, rows } = this;
    const { layers, keyValueHeads, headSize } = this.config;
    const count = builder.dims(['sequence_length']);
    const first = this.lengths.cast('int64').add(1).sub(count);
    const places = builder
      .range('sequence_length')
      .cast('int64')
      .reshape([1, 1, 'sequence_length', 1])
      .add(first.reshape([rows, 1, 1, 1]))
      .expand([rows, keyValueHeads, 'sequence_length', 1]);
    const names = Array.from({ length: layers }, (_, layer) => [`present.${layer}.key`, `present.${layer}.value`]).flat();
    const newest = names.map(
      (name) =>
        builder.operator('GatherND', [this.outputs[name], places], {
          attributes: { batch_dims: 2 },
          outputs: [{ dtype: 'float32', shape: [rows, keyValueHeads, 'sequence_length', headSize] }],
        })[0],
    );
    return concat(newest, 1);
  }

  /** The fused attention rotates too, but refuses more tokens than the context has positions, though branches share those. */
  #rotated(x: Tensor, heads: number, { positions }: Branches): Tensor {
    return this.builder.operator('RotaryEmbedding', [x, positions, ...this.#tables], {
      domain: 'com.microsoft',
      attributes: { num_heads: heads },
      outputs: [{ dtype: 'float32', shape: x.shape }],
    })[0];
  }
}
