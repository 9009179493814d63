import { describe, expect, it } from '@jest/globals';
import { EventTokenizer, eventSchema, item, time } from '@user-llm/event-tokenizer';
import { UserEncoder } from '@user-llm/user-encoder';
import { encoderShape } from '../src/encoder-shape.js';

const fitted = (unit?: 's' | 'order'): Promise<EventTokenizer> =>
  EventTokenizer.fit(
    eventSchema({ user: 'user', ...(unit && { time: time('at', { unit }) }), fields: { film: item('film') } }),
    () => [
      { user: 'ann', film: 'Alien', at: 1 },
      { user: 'ann', film: 'Brazil', at: 2 },
    ],
  );

describe('the shape of the encoder', () => {
  it.each([
    ['times where the log has times', 's', 'rotary-time'],
    ['the order of events where times are only that', 'order', 'rotary'],
    ['the order of events where there are no times', undefined, 'rotary'],
  ] as const)('%s', async (_, unit, position) => {
    const tokenizer = await fitted(unit);
    const shape = encoderShape(tokenizer);
    expect(shape.attention.position).toBe(position);
    expect(UserEncoder.create(tokenizer, shape).config.attention).toEqual(shape.attention);
  });
});
