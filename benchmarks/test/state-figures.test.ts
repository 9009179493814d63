import { simulateFilmService } from '@user-llm/datasets';
import { EventTokenizer } from '@user-llm/event-tokenizer';
import { nextEvent, UserEncoder } from '@user-llm/user-encoder';
import { expect, test } from '@jest/globals';
import { stateFigures } from '../src/encoder/serve.js';

test.each(['never', 'allowed'] as const)(
  'a state scores items as one pass over the whole history does, where repeats are %s',
  async (repeats) => {
    const data = simulateFilmService({ seed: 1, users: 40, items: 500 });
    const tokenizer = await EventTokenizer.fit(data.schema, data.events);
    const events = await tokenizer.encode(data.events);
    const shape = { width: 16, layers: 1, heads: 2, userTokens: 2, attention: { position: 'rotary', window: 8 } } as const;
    const created = UserEncoder.create(tokenizer, shape, { threads: 1 });
    const options = { steps: 3, batch: 8, validation: 'none', threads: 1, objective: nextEvent({ repeats }) } as const;
    const encoder = await created.pretrain(events, options).result;
    const { float32, int8 } = await stateFigures(encoder, { tokenizer, events }, 1);
    expect(float32.sameTopTen).toBe(1);
    expect(float32.largestScoreError).toBeLessThan(1e-4);
    expect(int8.largestScoreError).toBeGreaterThan(float32.largestScoreError);
    expect(int8.bytes).toBeLessThan(float32.bytes);
    await created.dispose();
    await encoder.dispose();
  },
);
