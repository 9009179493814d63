import { concat, graph, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import { relativeBias, rotate } from './band.js';
import type { Band, EncoderConfig } from './config.js';
import { declareEvents, fuseEvents } from './fusion.js';
import { transformerLayers, type Attend } from './transformer.js';

/** Names of the step's inputs beside the event's fields, whose axes are all 1. */
export const stepInputs = {
  /** float32 [H, W, D / H] each: a layer's rings. */
  keys: (layer: number): string => `past.${layer}.keys`,
  values: (layer: number): string => `past.${layer}.values`,
  /** float32 [W + 1]: 0 for a slot that is seen, far below for one that is not; the new event last. */
  mask: 'mask',
  /** float32 [1, D / H / 2]: of the new event's position. */
  cosine: 'cosine',
  sine: 'sine',
  /** int32 [W + 1]: buckets of each slot's distance from the new event, and of the time between them. */
  distances: 'distances',
  gaps: 'gaps',
} as const;

/**
 * One new event over what was kept: its state [1, D], and what the rings take up of it, [2 L, D] (a layer's key, then its value). The
 * rings are read where they lie: nothing is moved, and the caller writes the event into its slot afterwards.
 */
export const stepDefinition = (config: EncoderConfig, band: Band): GraphDefinition<{ state: Tensor; fresh: Tensor }> =>
  graph(({ builder }) => {
    const { heads, width } = config;
    const { window, position } = band;
    const head = width / heads;
    const encoder = builder.scope('encoder');
    const event = fuseEvents(encoder, config, declareEvents(builder.scope('events'), config.fields, [1, 1])).reshape([1, width]);

    const mask = builder.input(stepInputs.mask, [window + 1]).reshape([1, 1, window + 1]);
    const bias = position === 'rotary' ? mask : learned().add(mask); // [1 or H, 1, W + 1]
    function learned(): Tensor {
      const [distances, gaps] = [stepInputs.distances, stepInputs.gaps].map((name) => builder.input(name, [window + 1], 'int32'));
      return relativeBias(encoder, config, window, distances, gaps)
        .transpose([1, 0])
        .reshape([heads, 1, window + 1]);
    }

    const attend: Attend = (layer, q, k, v) => {
      const [query, key, value] = [q, k, v].map((x) => x.reshape([heads, 1, head]));
      const past = [stepInputs.keys, stepInputs.values].map((name) => builder.input(name(layer), [heads, window, head]));
      const product = { transposeB: true, scale: 1 / Math.sqrt(head) };
      const weights = concat([query.matmul(past[0], product), query.matmul(key, product)], 2)
        .add(bias)
        .softmax(); // [H, 1, W + 1]
      const [ofPast, own] = weights.split(2, [window, 1]);
      return ofPast.matmul(past[1]).add(own.mul(value)).reshape([1, width]);
    };
    const { states, cache } = transformerLayers(encoder, config, event, attend, position === 'rotary' ? places() : undefined);
    function places(): (x: Tensor) => Tensor {
      const [cosine, sine] = [stepInputs.cosine, stepInputs.sine].map((name) => builder.input(name, [1, head / 2]));
      const first = builder.constant(0, [1], 'int64');
      return (x) => rotate(x.reshape([1, 1, 2 * width]), first, cosine, sine, sine.neg()).reshape([1, 2 * width]);
    }
    return {
      state: states,
      fresh: concat(
        cache.flatMap(({ keys, values }) => [keys, values]),
        0,
      ),
    };
  });
