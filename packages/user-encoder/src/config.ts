import type { EventTokenizer } from '@user-llm/event-tokenizer';
import { EncoderOptionError } from './errors.js';
import { inputFields, type InputField } from './input-fields.js';
import { checkNames } from './option-names.js';

/**
 * Attention over the last events by relative position: only how far apart two events are counts, so that a state never changes
 * afterwards, and an update goes on from what was kept.
 *
 * `rotary` turns queries and keys by their place (Su et al. 2021). `rotary-time` turns half of their numbers by place and half by time, at
 * frequencies from one turn in a minute to one in years: it costs no more, and what attention sees is how much time lies between two
 * events. `relative-time` adds a learned number per head and distance and one per head and time between the two events, both on
 * logarithmic scales (the relative bias of HSTU, Zhai et al. 2024, section 3.2); at width 128, 6 layers and a window
 * of 200 events, training with it took at most 12 % more time than with `rotary`.
 */
export interface Band {
  readonly position: 'rotary' | 'rotary-time' | 'relative-time';
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
  /** The most events of a training window; unless attention is a band also the most that are ever read, the latest ones. Default 200. */
  readonly context?: number;
  /**
   * Which events a state sees. `causal` (default): its own and those before it in the context, each place with a learned vector.
   * `bidirectional`: all of them, for `maskedEvents`; the next item is then scored at a masked event after the last. A {@link Band}:
   * in every layer the last `window` events, its own included; for encoders that are updated one event at a time.
   */
  readonly attention?: 'causal' | 'bidirectional' | Band;
  /** K: tokens that the resampler makes of a user. Default 16. */
  readonly userTokens?: number;
  /** Perceiver layers. Default 1. */
  readonly resamplerLayers?: number;
  /**
   * What the resampler's tokens start from: `last` (the default), the state of the last event, which knows best what comes next, or
   * `last-and-mean`, where half of the K start from the mean of the states that are read, which knows what the history is made of.
   */
  readonly tokenStart?: 'last' | 'last-and-mean';
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
  /** Absent where all tokens start from the last state. */
  readonly tokenStart?: 'last-and-mean' | undefined;
  readonly dropout: number;
  readonly seed: number;
  /** The item first. */
  readonly fields: readonly InputField[];
  /** Absent for causal attention. */
  readonly attention?: 'bidirectional' | Band | undefined;
}

/** The band that attention is, where it is one. */
export const bandOf = ({ attention }: Pick<EncoderConfig, 'attention'>): Band | undefined =>
  typeof attention === 'object' ? attention : undefined;

const positions: readonly Band['position'][] = ['rotary', 'rotary-time', 'relative-time'];

const sizes = { width: 64, layers: 2, heads: 2, context: 200, userTokens: 16, resamplerLayers: 1 } as const;

/** Fills in the defaults and checks. */
export function encoderConfig(tokenizer: EventTokenizer, options: EncoderOptions): EncoderConfig {
  checkNames(options, [...Object.keys(sizes), 'tokenStart', 'dropout', 'seed', 'fields', 'attention']);
  const whole = (name: keyof typeof sizes): number => {
    const value = options[name] ?? sizes[name];
    if (!Number.isInteger(value) || value < 1) throw new EncoderOptionError(name, `${value} is not a positive whole number`);
    return value;
  };
  const { tokenStart = 'last', dropout = 0.2, seed = 0 } = options;
  if (tokenStart !== 'last' && tokenStart !== 'last-and-mean')
    throw new EncoderOptionError('tokenStart', `'${String(tokenStart)}' is neither 'last' nor 'last-and-mean'`);
  if (!(dropout >= 0 && dropout < 1)) throw new EncoderOptionError('dropout', `${dropout} is outside [0, 1)`);
  if (!Number.isSafeInteger(seed)) throw new EncoderOptionError('seed', `${seed} is not a whole number`);
  const width = whole('width');
  const heads = whole('heads');
  if (width % heads !== 0)
    throw new EncoderOptionError('heads', `${heads} heads do not divide a width of ${width}; choose a divisor`);
  const context = whole('context');
  const attention = checkedAttention(tokenizer, options.attention, { width, heads, context });
  return {
    width,
    layers: whole('layers'),
    heads,
    context,
    userTokens: whole('userTokens'),
    resamplerLayers: whole('resamplerLayers'),
    ...(tokenStart === 'last' ? {} : { tokenStart }),
    dropout,
    seed,
    fields: inputFields(tokenizer, width, options.fields),
    ...(attention ? { attention } : {}),
  };
}

function checkedAttention(
  tokenizer: EventTokenizer,
  attention: EncoderOptions['attention'],
  { width, heads, context }: { width: number; heads: number; context: number },
): EncoderConfig['attention'] {
  const fail = (problem: string): never => {
    throw new EncoderOptionError('attention', problem);
  };
  if (attention === undefined || attention === 'causal') return undefined;
  if (typeof attention !== 'object')
    return attention === 'bidirectional' ? attention : fail(`'${String(attention)}' is neither 'causal' nor 'bidirectional'`);
  checkNames(attention, ['position', 'window'], 'attention');
  const { position, window } = attention;
  if (!positions.includes(position)) fail(`there is no position '${String(position)}'; there are ${positions.join(', ')}`);
  if (!Number.isInteger(window) || window < 2) fail(`a window of ${window} events; give a whole number of 2 or more`);
  if (window > context) fail(`a window of ${window} events is never filled in a context of ${context}; make one of them fit`);
  const pairs = width / heads / 2;
  if (position !== 'relative-time' && !Number.isInteger(pairs))
    fail(`rotation turns pairs of numbers, and a head is ${width / heads} wide; choose another number of heads`);
  if (position === 'rotary-time' && pairs < 2)
    fail('a head of two numbers has one pair, to be turned by place or time; give it four');
  if (position !== 'rotary') {
    const { time } = tokenizer.fields;
    if (time?.kind !== 'time' || time.unit === 'order')
      fail('the tokenizer has no time of events (an order is none), so there are no times between them; choose rotary');
  }
  return { position, window };
}
