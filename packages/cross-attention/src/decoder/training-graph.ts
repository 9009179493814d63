import { attention, causalBias, concat, rotary, rotaryTables } from '@user-llm/onnx-autograd';
import type { GraphBuilder, Tensor } from '@user-llm/onnx-autograd';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { SelfAttention } from './decoder-graph.js';
import { rotaryFrequencies } from './rotary.js';

/**
 * Causal self-attention over whole rows in differentiable operations. Rows begin at position 0 and are padded at their end, where
 * causality hides the padding. Query heads that share keys are stacked along the positions, so that keys are never repeated.
 */
export function trainingAttention(builder: GraphBuilder, config: DecoderConfig): SelfAttention {
  const { heads, keyValueHeads, headSize, slidingWindow } = config;
  const group = heads / keyValueHeads;
  const frequencies = rotaryFrequencies(config);
  let tables: ReturnType<typeof rotaryTables> | undefined;
  return (layer, queries, keys, values) => {
    const [rows, positions] = queries.shape;
    tables ??= rotaryTables(builder, builder.range(positions), headSize, frequencies);
    const { cosine, sine } = tables;
    const split = (x: Tensor, count: number) => x.reshape([rows, positions, count, headSize]).transpose([0, 2, 1, 3]);
    const q = rotary(split(queries, heads), cosine, sine);
    const k = rotary(split(keys, keyValueHeads), cosine, sine);
    const window = slidingWindow?.layers[layer] ? slidingWindow.size : undefined;
    const bias = causalBias(builder, positions, positions, window);
    const stacked = q.reshape([rows, keyValueHeads, -1, headSize]);
    const attended = attention(stacked, k, split(values, keyValueHeads), { bias: concat(Array(group).fill(bias), 0) });
    return attended.reshape(q.shape).transpose([0, 2, 1, 3]).reshape(queries.shape);
  };
}
