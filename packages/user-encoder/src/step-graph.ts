import { concat, graph, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import { relativeBias, rotate } from './band.js';
import type { Band, EncoderConfig } from './config.js';
import { declareEvents, fuseEvents } from './fusion.js';
import { transformerLayers, type Mix } from './transformer.js';

/** Names of the step's inputs beside the event's fields, whose axes are all 1. */
export const stepInputs = {
  /** float32 [1, H, W, D / H] each: a layer's rings. */
  keys: (layer: number): string => `past.${layer}.keys`,
  values: (layer: number): string => `past.${layer}.values`,
  /** float32 [W + 1]: 0 for a slot that is seen, far below for one that is not; the new event last. */
  mask: 'mask',
  /** float32 [1, D / H / 2]: of the new event's position, and time where it turns too. */
  cosine: 'cosine',
  sine: 'sine',
  /** int32 [W + 1]: buckets of each slot's distance from the new event, and of the time between them. */
  distances: 'distances',
  gaps: 'gaps',
} as const;

/**
 * One new event over what was kept: its state [1, D], and what the rings take up of it, [2 L, H, 1, D / H] (a
 * layer's key, then its value). The
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
    const bias = position === 'relative-time' ? learned().add(mask) : mask; // [1 or H, 1, W + 1]
    function learned(): Tensor {
      const [distances, gaps] = [stepInputs.distances, stepInputs.gaps].map((name) => builder.input(name, [window + 1], 'int32'));
      return relativeBias(encoder, config, window, distances, gaps)
        .transpose([1, 0])
        .reshape([heads, 1, window + 1]);
    }

    const turn = position === 'relative-time' ? undefined : places();
    function places(): (x: Tensor) => Tensor {
      const [cosine, sine] = [stepInputs.cosine, stepInputs.sine].map((name) => builder.input(name, [1, head / 2]));
      const first = builder.constant(0, [1], 'int64');
      return (x) => rotate(x, first, cosine, sine, sine.neg());
    }
    /** Heads of the one event: queries and keys turned by its place, and values, [1, H, 1, D / H] each. */
    function parts(packed: Tensor): Tensor[] {
      const all = packed.reshape([1, 3 * heads, 1, head]);
      if (!turn) return all.split(1, [heads, heads, heads]);
      const [queryAndKey, value] = all.split(1, [2 * heads, heads]);
      return [...turn(queryAndKey).split(1, [heads, heads]), value];
    }
    const product = { transposeB: true, scale: 1 / Math.sqrt(head) };
    const mix: Mix = (layer, packed) => {
      const [query, keys, values] = parts(packed);
      const past = [stepInputs.keys, stepInputs.values].map((name) => builder.input(name(layer), [1, heads, window, head]));
      const scores = concat([query.matmul(past[0], product), query.matmul(keys, product)], 3); // [1, H, 1, W + 1]
      const [ofPast, own] = scores.add(bias).softmax().split(3, [window, 1]);
      const mixed = ofPast.matmul(past[1]).add(own.mul(values)).reshape([1, width]);
      return { mixed, keys, values };
    };
    const { states, cache } = transformerLayers(encoder, config, event, mix);
    return {
      state: states,
      fresh: concat(
        cache.flatMap(({ keys, values }) => [keys, values]),
        0,
      ),
    };
  });
