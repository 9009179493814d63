import { GraphBuilder, toOnnx } from '@user-llm/onnx-autograd';
import type { Tensor, Weights } from '@user-llm/onnx-autograd';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { DecoderGraph } from './decoder-graph.js';
import type { DecoderHooks, SelfAttention } from './decoder-graph.js';
import { QuantizedMatrices } from './quantized-matrices.js';
import type { AccuracyLevel } from './quantized-matrices.js';
import { rotaryCaches } from './rotary.js';
import { ValueFile, valuesInside } from './value-store.js';
import type { ValueStore } from './value-store.js';

/** A part of a model that reads users: its extra inputs and hooks, made for the inference graph. */
export type InferenceAddition = (builder: GraphBuilder) => DecoderHooks;

/**
 * A decoder as transformers.js runs it, one ONNX file with the weights inside. Inputs: `input_ids` [batch_size, sequence_length] int64,
 * `attention_mask` [batch_size, total_sequence_length] int64, `num_logits_to_keep` int64 (0: all positions),
 * `past_key_values.I.key|value` [batch_size, key/value heads, past_sequence_length, head size], and those of the addition. Outputs:
 * `logits` [batch_size, kept, V], `log_normalizers` [batch_size, kept] (the logarithm of each row's sum of exponentials),
 * `present.I.key|value`. Several new tokens on top of a cache are possible for a batch of one only. Weights that come from a GGUF
 * file in Q4_0, Q4_1 or Q8_0 stay as they are; `accuracyLevel` says how products with them are computed (default 4).
 */
export function inferenceModel(
  config: DecoderConfig,
  weights: Weights,
  addition?: InferenceAddition,
  { accuracyLevel = 4 }: { readonly accuracyLevel?: AccuracyLevel } = {},
): Uint8Array {
  return inferenceGraph(config, weights, addition, accuracyLevel, valuesInside);
}

/**
 * The same for a session that is opened at once: quantised weights are written to `file` and left out of the model, whose bytes then
 * need its folder.
 */
export function inferenceModelBeside(
  file: ValueFile,
  config: DecoderConfig,
  weights: Weights,
  addition?: InferenceAddition,
  { accuracyLevel = 4 }: { readonly accuracyLevel?: AccuracyLevel } = {},
): Uint8Array {
  return inferenceGraph(config, weights, addition, accuracyLevel, file);
}

function inferenceGraph(
  config: DecoderConfig,
  weights: Weights,
  addition: InferenceAddition | undefined,
  accuracyLevel: AccuracyLevel,
  store: ValueStore,
): Uint8Array {
  const builder = GraphBuilder.create();
  const outputs: Record<string, Tensor> = {};
  const ids = builder.input('input_ids', ['batch_size', 'sequence_length'], 'int64');
  const mask = builder.input('attention_mask', ['batch_size', 'total_sequence_length'], 'int64');
  const keep = builder.input('num_logits_to_keep', [], 'int64');
  const graph = new DecoderGraph(
    builder,
    config,
    addition?.(builder),
    new QuantizedMatrices(builder, weights, accuracyLevel, store),
  );
  const hidden = graph.hidden(graph.embed(ids), cachedAttention(builder, config, mask, outputs));
  const logits = graph.logits(lastPositions(builder, hidden, keep));
  const [normalizers] = builder.operator('ReduceLogSumExp', [logits, builder.constant([-1], [1], 'int64')], {
    attributes: { keepdims: 0 },
    outputs: [{ dtype: 'float32', shape: logits.shape.slice(0, -1) }],
  });
  return toOnnx({
    outputs: { logits, log_normalizers: normalizers, ...outputs },
    weights,
    ...(store instanceof ValueFile ? { external: store.values } : {}),
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

/** onnxruntime's fused attention with its key/value cache; the cache's outputs are added to `outputs`. */
function cachedAttention(
  builder: GraphBuilder,
  config: DecoderConfig,
  mask: Tensor,
  outputs: Record<string, Tensor>,
): SelfAttention {
  const { heads, keyValueHeads, headSize, contextLength, slidingWindow } = config;
  const tables = rotaryCaches(config);
  const cosine = builder.constant(tables.cosine, [contextLength, headSize / 2]);
  const sine = builder.constant(tables.sine, [contextLength, headSize / 2]);
  const lengths = mask.sum(1).sub(1).cast('int32');
  const total = builder.dims(['total_sequence_length']).cast('int32').reshape([]);
  return (layer, queries, keys, values) => {
    const past = ['batch_size', keyValueHeads, 'past_sequence_length', headSize];
    const pastKey = builder.input(`past_key_values.${layer}.key`, past);
    const pastValue = builder.input(`past_key_values.${layer}.value`, past);
    const present = { dtype: 'float32', shape: ['batch_size', keyValueHeads, 'total_sequence_length', headSize] } as const;
    const [attended, key, value] = builder.operator(
      'GroupQueryAttention',
      [queries, keys, values, pastKey, pastValue, lengths, total, cosine, sine],
      {
        domain: 'com.microsoft',
        attributes: {
          num_heads: heads,
          kv_num_heads: keyValueHeads,
          do_rotary: 1,
          rotary_interleaved: 0,
          ...(slidingWindow?.layers[layer] ? { local_window_size: slidingWindow.size } : {}),
        },
        outputs: [{ dtype: 'float32', shape: queries.shape }, present, present],
      },
    );
    outputs[`present.${layer}.key`] = key;
    outputs[`present.${layer}.value`] = value;
    return attended;
  };
}
