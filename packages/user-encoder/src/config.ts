import type { EventTokenizer } from '@user-llm/event-tokenizer';
import { EncoderOptionError } from './errors.js';
import { inputFields, type InputField } from './input-fields.js';

/**
 * How an event sees those before it.
 *
 * - `learned`: all events of the context, each place with a learned vector. The context slides as a whole, so one more event changes
 *   every state: nothing can be kept.
 * - `rotary`: each layer sees the last `window` events (its own included), and only how far apart two events are counts (Su et al.
 *   2021). A state never changes afterwards, so the history is read once and goes on from what was kept.
 * - `relative-time`: as `rotary`, with a learned number per head and distance and per head and time between the two events in place
 *   of rotation, both on logarithmic scales (the relative bias of HSTU, Zhai et al. 2024, section 3.2).
 */
export type AttentionOptions =
  { readonly position: 'learned' } | { readonly position: 'rotary' | 'relative-time'; readonly window: number };

/** Attention over the last `window` events, by relative position. */
export interface Band {
  readonly position: 'rotary' | 'relative-time';
  /** W: events that each layer sees, the event itself included. */
  readonly window: number;
}

export interface EncoderOptions {
  /** D: width of states and user tokens. Default 64. */
  readonly width?: number;
  /** Transformer layers. Default 2. */
  readonly layers?: number;
  /** Attention heads; they divide the width. Default 2. */
  readonly heads?: number;
  /** The most events of one training window. With learned positions also the most that are ever read, the latest ones. Default 200. */
  readonly context?: number;
  /** How an event sees those before it. Default: learned positions over the whole context. */
  readonly attention?: AttentionOptions;
  /** K: tokens that the resampler makes of a user. Default 16. */
  readonly userTokens?: number;
  /** Perceiver layers. Default 1. */
  readonly resamplerLayers?: number;
  /** Share of activations zeroed while training. Default 0.2. */
  readonly dropout?: number;
  /** Seeds the first weights, the batches and the dropout masks. Default 0. */
  readonly seed?: number;
  /** Which of the tokenizer's fields are read; all by default. The item always is. */
  readonly fields?: readonly string[];
}

/** An encoder's architecture: with the weights, everything that decides its output. */
export interface EncoderConfig {
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly context: number;
  readonly userTokens: number;
  readonly resamplerLayers: number;
  readonly dropout: number;
  readonly seed: number;
  /** The item first. */
  readonly fields: readonly InputField[];
  /** Absent: learned positions over the context. */
  readonly attention?: Band;
}

const sizes = { width: 64, layers: 2, heads: 2, context: 200, userTokens: 16, resamplerLayers: 1 } as const;

/** Fills in the defaults and checks. */
export function encoderConfig(tokenizer: EventTokenizer, options: EncoderOptions): EncoderConfig {
  const known = new Set([...Object.keys(sizes), 'dropout', 'seed', 'fields', 'attention']);
  for (const name of Object.keys(options))
    if (!known.has(name)) throw new EncoderOptionError(name, `there is no such option; there are ${[...known].join(', ')}`);
  const whole = (name: keyof typeof sizes): number => {
    const value = options[name] ?? sizes[name];
    if (!Number.isInteger(value) || value < 1) throw new EncoderOptionError(name, `${value} is not a positive whole number`);
    return value;
  };
  const { dropout = 0.2, seed = 0 } = options;
  if (!(dropout >= 0 && dropout < 1)) throw new EncoderOptionError('dropout', `${dropout} is outside [0, 1)`);
  if (!Number.isSafeInteger(seed)) throw new EncoderOptionError('seed', `${seed} is not a whole number`);
  const width = whole('width');
  const heads = whole('heads');
  if (width % heads !== 0)
    throw new EncoderOptionError('heads', `${heads} heads do not divide a width of ${width}; choose a divisor`);
  const context = whole('context');
  const attention = band(tokenizer, options.attention, { width, heads, context });
  return {
    width,
    layers: whole('layers'),
    heads,
    context,
    userTokens: whole('userTokens'),
    resamplerLayers: whole('resamplerLayers'),
    dropout,
    seed,
    fields: inputFields(tokenizer, width, options.fields),
    ...(attention ? { attention } : {}),
  };
}

function band(
  tokenizer: EventTokenizer,
  attention: AttentionOptions | undefined,
  { width, heads, context }: { width: number; heads: number; context: number },
): Band | undefined {
  const fail = (problem: string): never => {
    throw new EncoderOptionError('attention', problem);
  };
  if (attention === undefined || attention.position === 'learned') {
    if (attention && 'window' in attention) fail('learned positions see the whole context and have no window; leave it out');
    return undefined;
  }
  const { position, window } = attention;
  if (position !== 'rotary' && position !== 'relative-time')
    fail(`there is no position '${String(position)}'; there are learned, rotary and relative-time`);
  if (!Number.isInteger(window) || window < 2) fail(`a window of ${window} events; give a whole number of 2 or more`);
  if (window > context) fail(`a window of ${window} events is never filled in a context of ${context}; make one of them fit`);
  if (position === 'rotary' && (width / heads) % 2 !== 0)
    fail(`rotation turns pairs of numbers, and a head is ${width / heads} wide; choose another number of heads`);
  if (position === 'relative-time') {
    const time = tokenizer.fields.time;
    if (time?.kind !== 'time' || time.unit === 'order')
      fail('the tokenizer has no time of events (an order is none), so there are no times between them; choose rotary');
  }
  return { position, window };
}
