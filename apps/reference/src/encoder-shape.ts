import type { EventTokenizer } from '@user-llm/event-tokenizer';
import type { EncoderOptions } from '@user-llm/user-encoder';

const window = 200;

/** An encoder of another size than the app's own: what `user-llm sweep` varies. */
export interface EncoderSize {
  readonly width: number;
  readonly userTokens: number;
}

/** The shape of the user encoder: with relative times where the log has times, by the order of events alone where it has not. */
export function encoderShape(tokenizer: EventTokenizer) {
  const { time } = tokenizer.fields;
  const timed = time?.kind === 'time' && time.unit !== 'order';
  return {
    width: 64,
    layers: 2,
    heads: 2,
    context: window,
    userTokens: 16,
    dropout: 0.2,
    attention: { position: timed ? 'relative-time' : 'rotary', window },
  } as const satisfies EncoderOptions;
}
