import { userIndex, UnknownUserError, type EventColumns } from '@user-llm/event-tokenizer';
import type { Feeds, GraphBuilder, Tensor, Weights } from '@user-llm/onnx-autograd';
import { bucketOf, lengthBuckets } from './batches.js';
import type { EncoderConfig } from './config.js';
import { EncoderOptionError } from './errors.js';
import { bagSizes, vector, type Window } from './event-feeds.js';
import { exampleTokens, groupOf, rowsInput } from './model.js';
import { windowFeeds } from './window-feeds.js';
import { lengthsInput } from './window-inputs.js';

/** What a user had done at some moment: the first `end` events of the user (by name, or by index in the columns). */
export interface History {
  readonly user: string | number;
  /** 0 to the number of the user's events. */
  readonly end: number;
}

/** Sizes to pad a batch to; each pair of sizes is a compiled graph of its own, so use few. */
export interface FeedSizes {
  /** U. Default: the next power of two. */
  readonly windows?: number;
  /** T. Default: the smallest of a quarter, a half and the whole of the context that holds every window. */
  readonly events?: number;
}

/** How a batch of histories was laid out. */
export interface Layout {
  /** Index ranges of the columns. */
  readonly windows: readonly NonNullable<Window>[];
  /** [B] the window of each example, */
  readonly rows: readonly number[];
  /** [B] and how many of its events the example sees. */
  readonly lengths: readonly number[];
}

/** An encoder as part of a bigger model, which trains through it: the other model needs to know this shape alone. */
export interface TrainableEncoder<E, Example = History> {
  /** `hash` names the weights that training starts from. */
  readonly manifest: {
    readonly hash: string;
    readonly tokenizer: string;
    readonly userTokens: number;
    readonly width: number;
    readonly context: number;
  };
  readonly weights: Weights;
  /** Names of the parameters that `build` declares, by part. A strategy trains one part or both. */
  readonly parameterGroups: { readonly encoder: readonly string[]; readonly resampler: readonly string[] };
  /**
   * Inputs of the graph for a batch of B examples, in their order. Histories of one user share a window, which ends at the latest of
   * them: earlier ones then see fewer events than they could, never fewer than half the context (or all there are); those that
   * would get a window of their own.
   */
  feeds(histories: readonly Example[], sizes?: FeedSizes): Feeds;
  /**
   * Adds the encoder to a graph, in a scope if you like: inputs and parameters then have the scope before their names. Axes: `examples` (B),
   * `windows`, `events`.
   *
   * @returns tokens [B, K, D], all valid
   */
  build(graph: GraphBuilder, options?: { dropout?: number }): { tokens: Tensor };
  /** Whether a parameter of `build` belongs to the resampler. */
  isResampler(parameter: string): boolean;
  /** The encoder with these weights in place of its own; names that are not the encoder's are left out, absent ones stay. */
  withWeights(weights: Weights): E;
}

export interface Trainable {
  readonly config: EncoderConfig;
  readonly manifest: TrainableEncoder<unknown>['manifest'];
  readonly weights: Weights;
}

/** The trainable form of an encoder over some events. */
export function trainableEncoder<E>(
  encoder: Trainable,
  events: EventColumns,
  withWeights: (weights: Weights) => E,
): TrainableEncoder<E> {
  const { config, weights, manifest } = encoder;
  const bags = bagSizes(config.fields, events);
  const names = [...weights.keys()];
  return {
    manifest,
    weights,
    parameterGroups: {
      encoder: names.filter((name) => groupOf(name) === 'encoder'),
      resampler: names.filter((name) => groupOf(name) === 'resampler'),
    },
    feeds(histories, sizes = {}) {
      const { windows, rows, lengths } = layOut(histories, events, config);
      const count = sizes.windows ?? 2 ** Math.ceil(Math.log2(windows.length));
      if (count < windows.length)
        throw new EncoderOptionError(
          'windows',
          `${histories.length} histories need ${windows.length} windows and ${count} were allowed; give as many as histories`,
        );
      const longest = Math.max(1, ...windows.map(({ start, end }) => end - start));
      const length = sizes.events ?? bucketOf(longest, lengthBuckets(config.context));
      if (length < longest || length > config.context)
        throw new EncoderOptionError(
          'events',
          `${length} does not hold a window of ${longest} events within the context of ${config.context}`,
        );
      const padded: Window[] = [...windows, ...new Array<null>(count - windows.length).fill(null)];
      return {
        ...windowFeeds(config, events, padded, length, bags),
        [rowsInput]: vector(rows),
        [lengthsInput]: vector(lengths),
      };
    },
    build: (graph, { dropout = config.dropout } = {}) => ({ tokens: exampleTokens(graph, { ...config, dropout }) }),
    isResampler: (parameter) => groupOf(parameter) === 'resampler',
    withWeights,
  };
}

/** Groups histories into windows. A bidirectional state sees the whole window, which then ends where its histories do. */
export function layOut(
  histories: readonly History[],
  events: EventColumns,
  { context, attention }: Pick<EncoderConfig, 'context' | 'attention'>,
): Layout {
  if (histories.length === 0) throw new EncoderOptionError('histories', 'a batch has one history or more');
  const byUser = new Map<number, number[]>();
  histories.forEach(({ user, end }, example) => {
    const index = typeof user === 'number' ? user : userIndex(events).get(user);
    if (index === undefined || !Number.isInteger(index) || index < 0 || index >= events.users.length)
      throw new UnknownUserError(user, events.users.length);
    const has = events.offsets[index + 1] - events.offsets[index];
    if (!Number.isInteger(end) || end < 0 || end > has)
      throw new EncoderOptionError('histories', `example ${example} ends after ${end} events of a user who has ${has}`);
    const list = byUser.get(index);
    if (list) list.push(example);
    else byUser.set(index, [example]);
  });
  const windows: NonNullable<Window>[] = [];
  const rows = new Array<number>(histories.length);
  const lengths = new Array<number>(histories.length);
  for (const [user, examples] of byUser) {
    const offset = events.offsets[user];
    let start = Infinity;
    for (const example of examples.sort((a, b) => histories[b].end - histories[a].end)) {
      const { end } = histories[example];
      const apart = attention === 'bidirectional' && offset + end !== windows.at(-1)?.end;
      if (end - start < Math.min(end, context / 2) || start === Infinity || apart) {
        start = Math.max(0, end - context);
        windows.push({ start: offset + start, end: offset + end });
      }
      rows[example] = windows.length - 1;
      lengths[example] = end - start;
    }
  }
  return { windows, rows, lengths };
}
