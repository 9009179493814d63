import type { EventTokenizer } from '@user-llm/event-tokenizer';
import type { EncoderOptions } from '@user-llm/user-encoder';

/** An encoder of another size than the app's own: what `user-llm sweep` varies. */
export interface EncoderSize {
  readonly width: number;
  readonly userTokens: number;
}

/** Shape of the encoder of a log; it reads the times between events where there are times, and not only an order. */
export const encoderShape = (tokenizer: EventTokenizer) =>
  ({
    width: 64,
    layers: 2,
    heads: 2,
    context: 200,
    userTokens: 16,
    dropout: 0.1,
    attention: { position: hasTimes(tokenizer) ? 'rotary-time' : 'rotary', window: 200 },
  }) as const satisfies EncoderOptions;

const hasTimes = ({ fields: { time } }: EventTokenizer): boolean => time?.kind === 'time' && time.unit !== 'order';

/** How its learning rate goes. Time is short: the rate stays high for half of it. */
export const pretrainingRate = { learningRate: 4e-3, schedule: { warmup: 0.1, hold: 0.5 } } as const;
