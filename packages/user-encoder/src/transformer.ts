import { ones, xavierUniform, zeros, type GraphBuilder, type Tensor } from '@user-llm/onnx-autograd';
import { mixer, type SightInputs } from './band.js';
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

/** Keys (turned by their place) and values of every event in one layer. */
export interface LayerCache {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** Lets the events of a layer attend: queries, keys and values of x [..., 3 D], to what is read, [..., D]. */
export type Mix = (layer: number, packed: Tensor) => { mixed: Tensor } & LayerCache;

/**
 * The layers of a pre-norm transformer over x [..., D].
 *
 * @returns normalised states [..., D]; what each layer offers to attend to
 */
export function transformerLayers(
  builder: GraphBuilder,
  { layers, width, dropout }: EncoderConfig,
  x: Tensor,
  mix: Mix,
): { states: Tensor; cache: LayerCache[] } {
  const cache: LayerCache[] = [];
  let states = x;
  for (let i = 0; i < layers; i++) {
    const layer = builder.scope(`layers.${i}`);
    const packed = dense(layer, 'attention.qkv', norm(layer, 'attention_norm', states), 3 * width);
    const { mixed, ...offered } = mix(i, packed);
    cache.push(offered);
    states = states.add(dense(layer, 'attention.output', mixed, width).dropout(dropout));
    states = feedForward(layer, states, dropout);
  }
  return { states: norm(builder, 'norm', states), cache };
}

/**
 * A pre-norm transformer. A state sees its own event and those before it (in a band: the last W), so that padding on the right changes
 * nothing; in a bidirectional one all events of its row.
 *
 * @param x [U, T, D]
 * @returns states [U, T, D], normalised, and the layers' keys and values
 */
export function eventStates(
  builder: GraphBuilder,
  config: EncoderConfig,
  x: Tensor,
  sight: SightInputs,
): { states: Tensor; cache: LayerCache[] } {
  const { attend, place } = mixer(builder, config, x.shape, sight);
  return transformerLayers(builder, config, x, (_, packed) => {
    const [queries, keys, values] = place ? placed(packed, config.width, place) : packed.split(-1, thrice(config.width));
    return { mixed: attend(queries, keys, values), keys, values };
  });
}

const thrice = (width: number): number[] => [width, width, width];

function placed(packed: Tensor, width: number, place: (queriesAndKeys: Tensor) => Tensor): Tensor[] {
  const [queriesAndKeys, values] = packed.split(-1, [2 * width, width]);
  return [...place(queriesAndKeys).split(-1, [width, width]), values];
}
