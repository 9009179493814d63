import {
  attention,
  causalBias,
  concat,
  maskBias,
  mergeHeads,
  multiHeadAttention,
  splitHeads,
  zeros,
  type Dim,
  type GraphBuilder,
  type Tensor,
} from '@user-llm/onnx-autograd';
import { bandOf, type Band, type EncoderConfig } from './config.js';
import { eventsAxis, windowsAxis } from './fusion.js';
import { distanceBucket, distanceBuckets, gapBuckets, receptiveField, rotaryAngles } from './relative-position.js';
import { blocksInput, gapsInput, turnsInputs, type AttentionForm } from './window-inputs.js';

const blocksAxis = 'blocks';

/** What attention reads beside the events. */
export interface SightInputs {
  /** Booleans [U, T]: which places hold an event, where attention is bidirectional. */
  readonly visible?: Tensor | undefined;
  /** Buckets of the time between each event and those that it may see: int32 [U, T, T] or, in blocks, [n, W, 2 W]. */
  readonly gaps?: Tensor | undefined;
  /** float32 [U, T, D / H / 2] each: by what queries and keys are turned, where time turns them too. */
  readonly turns?: { readonly cosine: Tensor; readonly sine: Tensor } | undefined;
  /** float32 [n, 2 W] for the n blocks of all windows, added to the scores: nothing stands before a window's first block. */
  readonly blocks?: Tensor | undefined;
  /** float32 [U, T], added to the scores of each event as a key: the logarithm of how much of it is there. */
  readonly presence?: Tensor | undefined;
}

/** Declares what a band reads for rows with these axes. */
export function declareBand(
  builder: GraphBuilder,
  config: EncoderConfig,
  prefix: string,
  [rows, events]: readonly [Dim, Dim],
  form: AttentionForm,
): SightInputs {
  const band = bandOf(config);
  if (!band) return {};
  const { window, position } = band;
  const pairs = form === 'mask' ? [rows, events, events] : [blocksAxis, window, 2 * window];
  const turn = (name: string): Tensor => builder.input(name, [rows, events, config.width / config.heads / 2]);
  const names = turnsInputs(prefix);
  return {
    ...(position === 'rotary-time' ? { turns: { cosine: turn(names.cosine), sine: turn(names.sine) } } : {}),
    ...(position === 'relative-time' ? { gaps: builder.input(gapsInput(prefix), pairs, 'int32') } : {}),
    ...(form === 'blocks' ? { blocks: builder.input(blocksInput, [blocksAxis, 2 * window]) } : {}),
  };
}

/** Attention as the layers of a transformer share it. */
export interface Mixer {
  /** Turns queries and keys by their place: [U, T, 2 D] to the same shape; absent where places are told in another way. */
  readonly place?: (queriesAndKeys: Tensor) => Tensor;
  /** [U, T, D] each to [U, T, D]. */
  attend(q: Tensor, k: Tensor, v: Tensor): Tensor;
}

/**
 * @param builder of the encoder's parameters
 * @param shape of the events, [U, T, D]
 */
export function mixer(
  builder: GraphBuilder,
  config: EncoderConfig,
  [rows, events]: readonly Dim[],
  { visible, gaps, turns, blocks, presence }: SightInputs,
): Mixer {
  const band = bandOf(config);
  const ofKeys = (x: Tensor): Tensor => x.reshape([rows, 1, 1, events]);
  const withPresence = (bias: Tensor): Tensor => (presence ? bias.add(ofKeys(presence)) : bias);
  if (!band) return { attend: masked(config, withPresence(visible ? ofKeys(maskBias(visible)) : causalBias(builder, events))) };
  return {
    ...(band.position === 'rotary' ? { place: rotaryPlaces(builder, config, band) } : {}),
    ...(turns ? { place: turnedBy(builder, config, [rows, events], turns) } : {}),
    attend: blocks
      ? blockwise(builder, config, band, blockBand(builder, config, band, blocks, gaps), presence)
      : masked(config, withPresence(maskBand(builder, config, band, events, gaps))),
  };
}

const masked =
  ({ heads }: EncoderConfig, bias: Tensor): Mixer['attend'] =>
  (q, k, v) =>
    multiHeadAttention(q, k, v, heads, { bias });

/** Rotation by the place in the window, with tables for the longest one. */
function rotaryPlaces(builder: GraphBuilder, config: EncoderConfig, band: Band): (x: Tensor) => Tensor {
  const width = config.width / config.heads;
  const longest = Math.max(config.context, receptiveField(config, band) + band.window);
  const { cosine, sine } = rotaryAngles(0, longest, width);
  const shape = [longest, width / 2];
  const first = builder.constant(0, [1], 'int64');
  const tables = [builder.constant(cosine, shape), builder.constant(sine, shape)] as const;
  const back = builder.constant(
    sine.map((x) => -x),
    shape,
  );
  return (x) => rotate(x, first, tables[0], tables[1], back);
}

/** Rotation of every event by its own angles. */
function turnedBy(
  builder: GraphBuilder,
  config: EncoderConfig,
  [rows, events]: readonly Dim[],
  { cosine, sine }: NonNullable<SightInputs['turns']>,
): (x: Tensor) => Tensor {
  const half = config.width / config.heads / 2;
  const [cosines, sines] = [cosine, sine].map((x) => x.reshape([-1, half])); // [U T, D / H / 2]: a row of the table for every event
  const places = builder.range(cosines.shape[0]).reshape([rows, events]).cast('int64');
  const back = sines.neg();
  return (x) => rotate(x, places, cosines, sines, back);
}

/**
 * Heads of x [U, T, heads * width] turned, each as two halves (Su et al. 2021, rotate-half). Its gradient is the turn back.
 *
 * @param places int64 [1], the row of the tables for the first event, or [U, T], the row of each
 * @param sine, back [places, width / 2] and its negative
 */
export function rotate(x: Tensor, places: Tensor, cosine: Tensor, sine: Tensor, back: Tensor): Tensor {
  return x.graph.operator('RotaryEmbedding', [x, places, cosine, sine], {
    domain: 'com.microsoft',
    outputs: [{ dtype: x.dtype, shape: x.shape }],
    rule: (_, [g]) => [rotate(g!, places, cosine, back, sine), null, null, null],
  })[0];
}

/** The band's part of what is added to the scores of all pairs: [T, T] or [U, H, T, T]. */
function maskBand(builder: GraphBuilder, config: EncoderConfig, { window }: Band, events: Dim, gaps?: Tensor): Tensor {
  const visible = causalBias(builder, events, events, window);
  if (!gaps) return visible;
  const place = builder.range(events);
  const distance = place
    .reshape([events, 1])
    .sub(place.reshape([1, events]))
    .maximum(0)
    .minimum(window - 1); // [T, T]
  return relativeBias(builder, config, window, distanceIds(builder, window).gather(distance), gaps)
    .transpose([0, 3, 1, 2])
    .add(visible);
}

/** The bucket of each distance: int32 [W]. */
const distanceIds = (builder: GraphBuilder, window: number): Tensor =>
  builder.constant(
    Int32Array.from({ length: window }, (_, distance) => distanceBucket(distance)),
    [window],
    'int32',
  );

/**
 * The learned numbers of pairs of events, which all layers share.
 *
 * @param distances, gaps buckets, [..., queries, keys]
 * @returns [..., queries, keys, H]
 */
export function relativeBias(
  builder: GraphBuilder,
  { heads }: EncoderConfig,
  window: number,
  distances: Tensor,
  gaps: Tensor,
): Tensor {
  const byDistance = builder.parameter('bias.distance', [distanceBuckets(window), heads], zeros());
  const byGap = builder.parameter('bias.gap', [gapBuckets, heads], zeros());
  return byGap.gather(gaps).add(byDistance.gather(distances));
}

/** What is added to the scores of blocks: [n, 1, W, 2 W] or [n, H, W, 2 W]. */
function blockBand(builder: GraphBuilder, config: EncoderConfig, { window }: Band, blocks: Tensor, gaps?: Tensor): Tensor {
  const distanceOf = Int32Array.from(
    { length: 2 * window * window },
    (_, i) => window + Math.floor(i / (2 * window)) - (i % (2 * window)),
  );
  const shape = [window, 2 * window];
  const distance = builder.constant(distanceOf, shape, 'int32');
  const inside = maskBias(distance.greaterOrEqual(0).and(distance.less(window))); // [W, 2 W]
  const visible = inside.add(blocks.reshape([blocksAxis, 1, 1, 2 * window])); // [n, 1, W, 2 W]
  if (!gaps) return visible;
  const ids = builder.constant(
    distanceOf.map((d) => distanceBucket(Math.min(window - 1, Math.max(0, d)))),
    shape,
    'int32',
  );
  return relativeBias(builder, config, window, ids, gaps).transpose([0, 3, 1, 2]).add(visible);
}

function blockwise(
  builder: GraphBuilder,
  { heads, width }: EncoderConfig,
  { window }: Band,
  bias: Tensor,
  presence?: Tensor,
): Mixer['attend'] {
  // The graph's algebra of named axes cannot know that U T is n W.
  const regroup = (x: Tensor, sizes: Tensor, shape: Tensor['shape']): Tensor =>
    builder.operator('Reshape', [x, sizes], {
      outputs: [{ dtype: x.dtype, shape }],
      rule: (_, [g]) => [regroup(g!, builder.dims(x.shape), x.shape), null],
    })[0];
  const blocks = (x: Tensor): Tensor => {
    const size = Number(x.shape[2]);
    return regroup(x, builder.constant([-1, window, size], [3], 'int64'), [blocksAxis, window, size]);
  };
  /** The block before each: W events of nothing, and W fewer at the end. */
  const before = (x: Tensor): Tensor =>
    blocks(concat([builder.filled([windowsAxis, window, x.shape[2]]), x], 1).slice(1, 0, eventsAxis));
  const both = (x: Tensor): Tensor => concat([before(x), blocks(x)], 1); // [n, 2 W, .]
  const seen = presence
    ? bias.add(both(presence.reshape([windowsAxis, eventsAxis, 1])).reshape([blocksAxis, 1, 1, 2 * window]))
    : bias;
  return (q, k, v) => {
    const [query, keys, values] = [blocks(q), both(k), both(v)].map((x) => splitHeads(x, heads));
    const mixed = mergeHeads(attention(query, keys, values, { bias: seen })); // [n, W, D]
    return regroup(mixed, builder.dims([windowsAxis, eventsAxis, width]), [windowsAxis, eventsAxis, width]);
  };
}
