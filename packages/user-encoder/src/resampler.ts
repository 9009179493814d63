import {
  attention,
  concat,
  maskBias,
  mergeHeads,
  normal,
  splitHeads,
  xavierUniform,
  zeros,
  type Dim,
  type GraphBuilder,
  type Initializer,
  type Tensor,
} from '@user-llm/onnx-autograd';
import { bandOf, type EncoderConfig } from './config.js';
import { eventsAxis } from './fusion.js';
import { dense, feedForward, norm } from './transformer.js';

/** Which prefix of which window each example is: the first `lengths[i]` events of window `rows[i]` (of window i without `rows`). */
export interface Prefixes {
  /** int32 [B]; null when example i is window i. */
  readonly rows: Tensor | null;
  /** int32 [B], 0 for a history without events. */
  readonly lengths: Tensor;
}

/**
 * The state of each example's last event; a learned vector where there is none.
 *
 * @param states [U, T, D]
 * @returns [B, D]
 */
export function lastStates(builder: GraphBuilder, states: Tensor, { rows, lengths }: Prefixes): Tensor {
  const width = Number(states.shape[2]);
  const [examples] = lengths.shape;
  const stride = builder.dims([states.shape[1]]).cast('int32').reshape([]);
  const row = rows ?? builder.range(states.shape[0]);
  const place = row.mul(stride).add(lengths.sub(1).maximum(0)); // [B]
  const found = states.reshape([-1, width]).gather(place); // [B, D]
  const known = lengths.greater(0).cast('float32').reshape([examples, 1]);
  return found.mul(known).add(startState(builder, width).mul(known.neg().add(1)));
}

/** The state before a user's first event, learned: [1, D]. */
export const startState = (builder: GraphBuilder, width: number): Tensor =>
  builder.parameter('no_events', [1, width], normal(0.02));

/**
 * Perceiver resampler (Alayrac et al. 2022, section 3.1; paper, section 3.2): K latents attend to the states of a history and to
 * themselves. In a band those are the states of the last W events. They start from the last event's state, or half of them from the mean
 * of the states (`tokenStart`), plus a learned vector each. Keys and values are projected once per window and shared by all of its prefixes.
 *
 * @param states [U, T, D]
 * @param last [B, D]
 * @param presence [U, T], added to the scores of each state: the logarithm of how much of it is there
 * @returns user tokens [B, K, D], all of them valid
 */
export function resample(
  builder: GraphBuilder,
  config: EncoderConfig,
  states: Tensor,
  last: Tensor,
  { rows, lengths }: Prefixes,
  presence?: Tensor,
): Tensor {
  const { width, heads, userTokens, resamplerLayers, dropout } = config;
  const [examples] = lengths.shape;
  const ofExample = (x: Tensor): Tensor => (rows ? x.gather(rows) : x);

  const place = builder.range(eventsAxis).reshape([1, eventsAxis]);
  const ends = lengths.reshape([examples, 1]);
  let read = place.less(ends);
  const band = bandOf(config);
  if (band) read = read.and(place.greaterOrEqual(ends.sub(band.window)));
  const visible = presence ? maskBias(read).add(ofExample(presence)) : maskBias(read); // [B, T]
  const keys: Dim = `${eventsAxis}+${userTokens}`;
  const bias = concat([visible, builder.filled([examples, userTokens])], 1).reshape([examples, 1, 1, keys]);

  let tokens = startTokens(builder, config, last, () => {
    // Where nothing is read there is no mean, and the last state is the one before a first event.
    const known = lengths.greater(0).cast('float32').reshape([examples, 1]);
    const mean = visible.softmax().unsqueeze(1).matmul(ofExample(states)).reshape([examples, width]);
    return mean.mul(known).add(last.mul(known.neg().add(1)));
  });
  for (let i = 0; i < resamplerLayers; i++) {
    const layer = builder.scope(`layers.${i}`);
    const query = norm(layer, 'attention_norm', tokens);
    const weights = ['key', 'value'].map((name) => layer.parameter(`attention.${name}.weight`, [width, width], xavierUniform()));
    // One product per window over its states, one per example over its K latents.
    const [k, v] = weights.map((weight) => {
      const ofEvents = ofExample(splitHeads(states.linear(weight), heads)); // [B, H, T, D/H]
      return concat([ofEvents, splitHeads(query.linear(weight), heads)], 2); // [B, H, T + K, D/H]
    });
    const mixed = mergeHeads(attention(splitHeads(dense(layer, 'attention.query', query, width), heads), k, v, { bias }));
    tokens = tokens.add(dense(layer, 'attention.output', mixed, width).dropout(dropout));
    tokens = feedForward(layer, tokens, dropout);
  }
  return norm(builder, 'norm', tokens);
}

/** The tokens before they read, [B, K, D]. @param meanState makes the mean of the states that each example reads, [B, D] */
function startTokens(
  builder: GraphBuilder,
  { width, userTokens, tokenStart }: EncoderConfig,
  last: Tensor,
  meanState: () => Tensor,
): Tensor {
  const weight = builder.parameter('start.weight', [width, width], identity);
  const bias = builder.parameter('start.bias', [width], zeros());
  const from = (state: Tensor): Tensor => state.linear(weight, bias).reshape([state.shape[0], 1, width]);
  const latents = builder.parameter('latents', [1, userTokens, width], normal(0.5));
  const ofMean = tokenStart === 'last-and-mean' ? Math.floor(userTokens / 2) : 0;
  if (ofMean === 0) return latents.add(from(last));
  const [first, second] = latents.split(1, [userTokens - ofMean, ofMean]);
  return concat([first.add(from(last)), second.add(from(meanState()))], 1);
}

const identity: Initializer = ([rows, columns]) => {
  const weight = new Float32Array(rows * columns);
  for (let i = 0; i < Math.min(rows, columns); i++) weight[i * columns + i] = 1;
  return weight;
};
