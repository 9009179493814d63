import type { EventTokenizer } from '@user-llm/event-tokenizer';
import { EncoderOptionError } from './errors.js';
import { inputFields, type InputField } from './input-fields.js';

export interface EncoderOptions {
  /** D: width of states and user tokens. Default 64. */
  readonly width?: number;
  /** Transformer layers. Default 2. */
  readonly layers?: number;
  /** Attention heads; they divide the width. Default 2. */
  readonly heads?: number;
  /** The most events of a user that are read, the latest ones. Default 200. */
  readonly context?: number;
  /** K: tokens that the resampler makes of a user. Default 16. */
  readonly userTokens?: number;
  /** Perceiver layers. Default 1. */
  readonly resamplerLayers?: number;
  /**
   * Which events a state sees. `causal` (default): its own and those before it, for objectives that predict what comes next.
   * `bidirectional`: all of them, for `maskedEvents`; the next item is then scored at a masked event after the last.
   */
  readonly attention?: 'causal' | 'bidirectional';
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
  /** Absent for causal attention. */
  readonly attention?: 'bidirectional' | undefined;
  /** The item first. */
  readonly fields: readonly InputField[];
}

const sizes = { width: 64, layers: 2, heads: 2, context: 200, userTokens: 16, resamplerLayers: 1 } as const;

/** Fills in the defaults and checks. */
export function encoderConfig(tokenizer: EventTokenizer, options: EncoderOptions): EncoderConfig {
  const known = new Set([...Object.keys(sizes), 'attention', 'dropout', 'seed', 'fields']);
  for (const name of Object.keys(options))
    if (!known.has(name)) throw new EncoderOptionError(name, `there is no such option; there are ${[...known].join(', ')}`);
  const whole = (name: keyof typeof sizes): number => {
    const value = options[name] ?? sizes[name];
    if (!Number.isInteger(value) || value < 1) throw new EncoderOptionError(name, `${value} is not a positive whole number`);
    return value;
  };
  const { dropout = 0.2, seed = 0 } = options;
  if (!(dropout >= 0 && dropout < 1)) throw new EncoderOptionError('dropout', `${dropout} is outside [0, 1)`);
  const { attention = 'causal' } = options;
  if (!['causal', 'bidirectional'].includes(attention))
    throw new EncoderOptionError('attention', `'${attention}' is neither 'causal' nor 'bidirectional'`);
  if (!Number.isSafeInteger(seed)) throw new EncoderOptionError('seed', `${seed} is not a whole number`);
  const width = whole('width');
  const heads = whole('heads');
  if (width % heads !== 0)
    throw new EncoderOptionError('heads', `${heads} heads do not divide a width of ${width}; choose a divisor`);
  return {
    width,
    layers: whole('layers'),
    heads,
    context: whole('context'),
    userTokens: whole('userTokens'),
    resamplerLayers: whole('resamplerLayers'),
    dropout,
    seed,
    ...(attention === 'bidirectional' ? { attention } : {}),
    fields: inputFields(tokenizer, width, options.fields),
  };
}
