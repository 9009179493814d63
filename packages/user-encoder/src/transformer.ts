import {
  attention,
  causalBias,
  maskBias,
  mergeHeads,
  ones,
  splitHeads,
  xavierUniform,
  zeros,
  type GraphBuilder,
  type Tensor,
} from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';

/** A linear layer's parameters, Glorot-initialised. */
export const dense = (builder: GraphBuilder, name: string, x: Tensor, width: number): Tensor =>
  x.linear(
    builder.parameter(`${name}.weight`, [Number(x.shape.at(-1)), width], xavierUniform()),
    builder.parameter(`${name}.bias`, [width], zeros()),
  );

/** A layer norm with its parameters. */
export function norm(builder: GraphBuilder, name: string, x: Tensor): Tensor {
  const width = Number(x.shape.at(-1));
  return x.layerNorm(builder.parameter(`${name}.weight`, [width], ones()), builder.parameter(`${name}.bias`, [width], zeros()));
}

/** The feed-forward half of a pre-norm layer: D to 4 D to D with a ReLU, which costs a fraction of a GELU on a CPU. */
export function feedForward(builder: GraphBuilder, x: Tensor, dropout: number): Tensor {
  const width = Number(x.shape.at(-1));
  const hidden = dense(builder, 'up', norm(builder, 'mlp_norm', x), 4 * width).relu();
  return x.add(dense(builder, 'down', hidden, width).dropout(dropout));
}

/**
 * A pre-norm causal transformer. A state sees its own event and those before it, so that padding on the right changes nothing.
 *
 * @param x [U, T, D]
 * @param visible [U, T] booleans: the transformer is bidirectional, every state sees the events for which this is true
 * @returns states [U, T, D], normalised
 */
export function causalStates(
  builder: GraphBuilder,
  { layers, heads, width, dropout }: EncoderConfig,
  x: Tensor,
  visible?: Tensor,
): Tensor {
  const [rows, events] = x.shape;
  const bias = visible ? maskBias(visible).reshape([rows, 1, 1, events]) : causalBias(builder, events);
  let states = x;
  for (let i = 0; i < layers; i++) {
    const layer = builder.scope(`layers.${i}`);
    const [q, k, v] = dense(layer, 'attention.qkv', norm(layer, 'attention_norm', states), 3 * width).split(2, [
      width,
      width,
      width,
    ]);
    const mixed = mergeHeads(attention(splitHeads(q, heads), splitHeads(k, heads), splitHeads(v, heads), { bias })); // [U, T, D]
    states = states.add(dense(layer, 'attention.output', mixed, width).dropout(dropout));
    states = feedForward(layer, states, dropout);
  }
  return norm(builder, 'norm', states);
}
