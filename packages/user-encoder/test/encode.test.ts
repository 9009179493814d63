import {
  concatEvents,
  dropLast,
  takeLast,
  takeUsers,
  TokenizerMismatchError,
  UnknownUserError,
  type EventColumns,
} from '@user-llm/event-tokenizer';
import { describe, expect, test } from '@jest/globals';
import { EncoderOptionError, UserEncoder } from '../src/index.js';
import { cinema, cinemaRows, collect, largestDifference, schema, small } from './support.js';

const { tokenizer, events } = await cinema();
const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });

describe('encode', () => {
  test('gives every user, in the order of the columns, K tokens of width D and where they come from', async () => {
    const found = await collect(encoder.encode(events, { tenant: 'cinema', writtenAt: 5 }));
    expect(found.map(({ user }) => user)).toEqual(events.users);
    const [first] = found;
    expect(first).toMatchObject({
      tenant: 'cinema',
      encoder: encoder.hash,
      tokenizer: tokenizer.hash,
      sequence: 20,
      watermark: { time: 1_700_000_000 + 19 * 3600, count: 20 },
      writtenAt: 5,
      dtype: 'float32',
      shape: [4, 16],
    });
    for (const { data } of found) {
      expect(data).toHaveLength(4 * 16);
      expect(data.every(Number.isFinite)).toBe(true);
    }
    expect(largestDifference(found[0].data, found[1].data)).toBeGreaterThan(0.01);
  });

  test('an embedding depends neither on the batch nor on the padding nor on the other users', async () => {
    const together = await collect(encoder.encode(events));
    const alone = await collect(encoder.encode(events, { batch: 1 }));
    for (let user = 0; user < together.length; user++) {
      expect(largestDifference(together[user].data, alone[user].data)).toBeLessThan(1e-5);
      const single = await encoder.encodeUser(takeUsers(events, [user]), 0);
      expect(largestDifference(together[user].data, single.data)).toBeLessThan(1e-5);
    }
  });

  test('only the last `context` events count', async () => {
    const whole = await encoder.encodeUser(events, 'user-0');
    const tail = await encoder.encodeUser(takeLast(events, small.context), 'user-0');
    const less = await encoder.encodeUser(takeLast(events, small.context - 1), 'user-0');
    expect(largestDifference(whole.data, tail.data)).toBeLessThan(1e-6);
    expect(largestDifference(whole.data, less.data)).toBeGreaterThan(1e-3);
  });

  test('every field is read', async () => {
    const [film] = cinemaRows({ users: 1, events: 1 });
    const one = async (change: object): Promise<Float32Array> =>
      (await encoder.encodeUser(await tokenizer.encode([film, { ...film, at: Number(film.at) + 60, ...change }]), 0)).data;
    const base = await one({});
    for (const change of [
      { film: 'film-3' },
      { genres: ['horror'] },
      { rating: 5 },
      { review: 'awful' },
      { at: Number(film.at) + 90_000 },
    ])
      expect([change, largestDifference(base, await one(change)) > 1e-5]).toEqual([change, true]);
  });

  test('an order instead of a time is no input', async () => {
    const { tokenizer: ordered } = await orderedCinema();
    expect(UserEncoder.create(ordered, small).config.fields.map(({ name }) => name)).toEqual(['film', 'genres']);
    expect(UserEncoder.create(ordered, { ...small, fields: ['film'] }).config.fields.map(({ name }) => name)).toEqual(['film']);
  });

  test('a user without events, and one whose only item was never seen, have an embedding and scores', async () => {
    const none = dropLast(events, 100);
    const cold = await collect(encoder.encode(none));
    expect(cold[0].watermark).toEqual({ time: NaN, count: 0 });
    expect(cold[0].data.every(Number.isFinite)).toBe(true);
    expect(largestDifference(cold[0].data, cold[5].data)).toBeLessThan(1e-6);
    // The same beside a user with events, and as the only row of a batch.
    const mixed = concatEvents([takeUsers(none, ['user-3']), takeUsers(events, ['user-0'])]);
    expect(largestDifference((await collect(encoder.encode(mixed)))[0].data, cold[0].data)).toBeLessThan(1e-5);

    const unseen = await tokenizer.encode([{ user: 'new', film: 'film-unheard-of', at: 1_700_000_000 }]);
    expect((await encoder.encodeUser(unseen, 'new')).data.every(Number.isFinite)).toBe(true);
    const scores = await encoder.scoreHistory(none, 0);
    expect(scores).toHaveLength(4 + 8);
    expect([...scores.subarray(0, 4)]).toEqual([-Infinity, -Infinity, -Infinity, -Infinity]);
    expect(scores.subarray(4).every(Number.isFinite)).toBe(true);
  });

  test('no user at all gives no embedding', async () => {
    expect(await collect(encoder.encode(await tokenizer.encode([])))).toEqual([]);
  });

  test('scores of all users are those of each alone', async () => {
    for await (const { user, scores } of encoder.nextItemScores(events, { batch: 5 }))
      expect(largestDifference(scores.subarray(4), (await encoder.scoreHistory(events, user)).subarray(4))).toBeLessThan(1e-5);
  });

  test('stops when the signal says so', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(collect(encoder.encode(events, { signal }))).rejects.toThrow('enough');
    await expect(encoder.encodeUser(events, 'user-0', { signal })).rejects.toThrow('enough');
    const late = new AbortController();
    const found = encoder.encodeUser(events, 'user-0', { signal: late.signal });
    late.abort(new Error('too late'));
    await expect(found).rejects.toThrow('too late');
  });
});

describe('what cannot work is said', () => {
  test('events of another tokenizer, unknown users, wrong options', async () => {
    const { events: foreign } = await orderedCinema();
    await expect(collect(encoder.encode(foreign))).rejects.toThrow(TokenizerMismatchError);
    expect(() => encoder.trainable(foreign)).toThrow(TokenizerMismatchError);
    await expect(encoder.encodeUser(events, 'nobody')).rejects.toThrow(UnknownUserError);
    await expect(encoder.scoreHistory(events, 99)).rejects.toThrow(UnknownUserError);
    expect(() => UserEncoder.create(tokenizer, { width: 10, heads: 3 })).toThrow('3 heads do not divide a width of 10');
    expect(() => UserEncoder.create(tokenizer, { layers: 0 })).toThrow(EncoderOptionError);
    expect(() => UserEncoder.create(tokenizer, { fields: ['colour'] })).toThrow(
      "the tokenizer has no field 'colour'; it has time, film",
    );
    expect(() => UserEncoder.create(tokenizer, { depth: 3 } as never)).toThrow('there is no such option; there are width');
  });

  test('options that there are not', async () => {
    const typo = { states: true } as never;
    const history = [{ user: 0, end: 3 }];
    for (const asked of [
      collect(encoder.encode(events, typo)),
      collect(encoder.nextItemScores(events, typo)),
      encoder.encodeUser(events, 0, typo),
      encoder.attribute(events, 0, typo),
      encoder.update(undefined, events, typo),
      encoder.scoreMoments(events, history, typo),
    ])
      await expect(asked).rejects.toThrow("option 'states': there is no such option; there are");
    expect(() => encoder.open(undefined, typo)).toThrow(EncoderOptionError);
  });

  test('an encoder that was disposed', async () => {
    const other = UserEncoder.create(tokenizer, small, { threads: 1 });
    await other.encodeUser(events, 0);
    await other.dispose();
    await expect(other.encodeUser(events, 0)).rejects.toThrow('this encoder was disposed');

    const opening = UserEncoder.create(tokenizer, small, { threads: 1 });
    const late = expect(opening.encodeUser(events, 0)).rejects.toThrow('this encoder was disposed');
    await opening.dispose();
    await late;
  });

  test('a batch of no users, or of a part of one', async () => {
    for (const batch of [0, -1, 0.5, NaN])
      for (const found of [encoder.encode(events, { batch }), encoder.nextItemScores(events, { batch })]) {
        const first = found.next();
        await expect(first).rejects.toThrow(EncoderOptionError);
        await expect(first).rejects.toThrow(`option 'batch': ${batch} is not a positive whole number`);
      }
  });
});

test('FLOPs grow with the events up to the context', () => {
  expect(encoder.flops({ events: 16 })).toBeGreaterThan(encoder.flops({ events: 8 }));
  expect(encoder.flops({ events: 16 })).toBe(encoder.flops({ events: 1000 }));
  expect(encoder.flops({ events: 0 })).toBe(encoder.flops({ events: 1 }));
  // The item head on one state: 2 x 16 x 12, and no resampler.
  expect(encoder.flops({ events: 16, output: 'scores' })).toBeLessThan(encoder.flops({ events: 16 }));
});

test('one seed gives one encoder, another seed another', () => {
  expect(UserEncoder.create(tokenizer, small).hash).toBe(encoder.hash);
  expect(UserEncoder.create(tokenizer, { ...small, seed: 8 }).hash).not.toBe(encoder.hash);
  expect(encoder.manifest).toEqual({ hash: encoder.hash, tokenizer: tokenizer.hash, userTokens: 4, width: 16, context: 16 });
});

async function orderedCinema(): Promise<{ tokenizer: typeof tokenizer; events: EventColumns }> {
  const { EventTokenizer, eventSchema, time } = await import('@user-llm/event-tokenizer');
  const rows = cinemaRows();
  const ordered = eventSchema({
    user: 'user',
    time: time('at', { unit: 'order' }),
    fields: { film: schema.fields.film, genres: schema.fields.genres },
  });
  const fitted = await EventTokenizer.fit(ordered, () => rows);
  return { tokenizer: fitted, events: await fitted.encode(rows) };
}
