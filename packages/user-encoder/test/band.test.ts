import { sliceUsers, takeLast, takeUsers, type EventColumns } from '@user-llm/event-tokenizer';
import { graph, Program } from '@user-llm/onnx-autograd';
import { describe, expect, test } from '@jest/globals';
import { bagSizes, vector } from '../src/event-feeds.js';
import { EncoderOptionError, UserEncoder, type Band } from '../src/index.js';
import { inferenceDefinition } from '../src/model.js';
import { distanceBucket, gapBucket, rotaryAngles } from '../src/relative-position.js';
import { windowFeeds } from '../src/window-feeds.js';
import { cinema, collect, largestDifference, small, unsettled } from './support.js';

const { tokenizer, events } = await cinema({ users: 4, events: 90 });
const window = 8;

/** One pass over whole histories, every pair of events masked or not: the definition that all else is held to. */
async function reference(encoder: UserEncoder, history: EventColumns): Promise<Float32Array> {
  const length = history.offsets[1];
  const program = await Program.create(inferenceDefinition({ ...encoder.config, context: length }), {
    weights: encoder.weights,
    outputs: ['tokens'],
    threads: 1,
  });
  const windows = [{ start: 0, end: length }];
  const { tokens } = await program.run({
    ...windowFeeds(encoder.config, history, windows, length, bagSizes(encoder.config.fields, history)),
    lengths: vector([length]),
  });
  await program.dispose();
  return tokens.data as Float32Array;
}

describe.each(['rotary', 'rotary-time', 'relative-time'] as const)('a band with %s positions', (position) => {
  const attention: Band = { position, window };
  const encoder = unsettled(UserEncoder.create(tokenizer, { ...small, attention }, { threads: 1 }));

  test('reads whole histories: in blocks, in batches and alone as in one pass', async () => {
    const together = await collect(encoder.encode(events));
    for (let user = 0; user < events.users.length; user++) {
      const expected = await reference(encoder, takeUsers(events, [user]));
      expect(largestDifference(together[user].data, expected)).toBeLessThan(1e-5);
      expect(largestDifference((await encoder.encodeUser(events, user)).data, expected)).toBeLessThan(1e-5);
    }
  });

  test('histories of every length around the forms that they are computed in', async () => {
    const one = takeUsers(events, [0]);
    for (const length of [1, 2, window - 1, window, window + 1, 2 * window, 2 * window + 1, 3 * window, 3 * window + 3]) {
      const history = takeLast(one, length);
      expect([
        length,
        largestDifference((await encoder.encodeUser(history, 0)).data, await reference(encoder, history)) < 1e-5,
      ]).toEqual([length, true]);
    }
  });

  test('sees W - 1 events further back with every layer, and the resampler W states', async () => {
    const reach = (small.layers + 1) * (window - 1) + 1;
    const one = takeUsers(events, [0]);
    const whole = (await encoder.encodeUser(one, 0)).data;
    expect(largestDifference(whole, (await encoder.encodeUser(takeLast(one, reach), 0)).data)).toBeLessThan(1e-5);
    expect(largestDifference(whole, (await encoder.encodeUser(takeLast(one, reach - 1), 0)).data)).toBeGreaterThan(1e-5);
  });

  test('only differences of places and times count', async () => {
    const one = takeUsers(events, [0]);
    const shifted = { ...one, times: one.times.map((time) => time + 7 * 86_400) };
    const { data } = await encoder.encodeUser(one, 0);
    expect(largestDifference(data, (await encoder.encodeUser(shifted, 0)).data)).toBeLessThan(1e-6);
    const slower = { ...one, times: one.times.map((time) => 5 * time) };
    const changed = largestDifference(data, (await encoder.encodeUser(slower, 0)).data);
    if (position === 'rotary') expect(changed).toBeLessThan(1e-6);
    else expect(changed).toBeGreaterThan(1e-4);
  });

  test('learns, and the order of events is what it learns from', async () => {
    const fresh = UserEncoder.create(tokenizer, { ...small, attention }, { threads: 1 });
    const options = { steps: 60, batch: 8, learningRate: 1e-2, threads: 1, validation: 'none' } as const;
    const trained = await fresh.pretrain(events, options).result;
    const { losses } = trained.training!;
    expect(losses.at(-1)!.loss).toBeLessThan(0.6 * losses[0].loss);
    for (const [name, weight] of trained.weights)
      if (name.startsWith('encoder.bias'))
        expect(largestDifference(weight.data as Float32Array, fresh.weights.get(name)!.data as Float32Array)).toBeGreaterThan(
          0.01,
        );
  });

  test('trains inside another model, and encodes what it trained', async () => {
    const one = sliceUsers(events, 0, 1);
    const trainable = encoder.trainable(one);
    const feeds = trainable.feeds(
      [
        { user: 0, end: 12 },
        { user: 0, end: 5 },
      ],
      { events: 16 },
    );
    const { builder, outputs } = graph(({ builder: b }) => trainable.build(b.scope('user'))).build({ training: false });
    expect(builder.inputs.has('user.lengths')).toBe(true);
    const scoped = new Map([...encoder.weights].map(([name, weight]) => [`user.${name}`, weight]));
    const program = await Program.create(
      graph(({ builder: b }) => trainable.build(b.scope('user'))),
      { weights: scoped, threads: 1 },
    );
    const { tokens } = await program.run(Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [`user.${name}`, feed])));
    await program.dispose();
    const size = small.userTokens * small.width;
    for (const [row, end] of [12, 5].entries()) {
      const prefix = { ...one, offsets: Int32Array.of(0, end) };
      expect(
        largestDifference(
          (tokens.data as Float32Array).subarray(row * size, (row + 1) * size),
          (await encoder.encodeUser(prefix, 0)).data,
        ),
      ).toBeLessThan(1e-5);
    }
    expect(outputs.tokens.shape).toEqual(['examples', small.userTokens, small.width]);
  });

  test('counts the work of the form that runs', () => {
    const flops = [1, 8, 16, 17, 22, 100].map((count) => encoder.flops({ events: count }));
    expect([...flops].sort((a, b) => a - b)).toEqual(flops);
    expect(flops.at(-1)).toBe(flops.at(-2));
  });
});

test('an angle is as exact at a position of a billion as at the first', () => {
  const far = 1_000_000_007;
  const near = rotaryAngles(0, 2, 8);
  const { cosine, sine } = rotaryAngles(far, 2, 8);
  // cos(a - b) from both places.
  for (let i = 0; i < 4; i++) expect(cosine[i] * cosine[4 + i] + sine[i] * sine[4 + i]).toBeCloseTo(near.cosine[4 + i], 6);
});

test('buckets of distances and of times grow', () => {
  const seconds = [NaN, 0, 0.5, 1, 2, 3, 4, 60, 86_400, 1e9, 1e12];
  const gaps = seconds.map(gapBucket);
  expect(gaps).toEqual([0, 1, 1, 2, 3, 3, 4, 7, 18, 31, 32]);
  const distances = Array.from({ length: 300 }, (_, i) => distanceBucket(i));
  expect(distances.slice(0, 17)).toEqual(Array.from({ length: 17 }, (_, i) => i));
  distances.forEach((bucket, i) => i > 0 && expect([0, 1]).toContain(bucket - distances[i - 1]));
});

test('an attention that cannot work is refused', async () => {
  const create = (attention: unknown, more = {}): UserEncoder =>
    UserEncoder.create(tokenizer, { ...small, ...more, attention: attention as Band });
  expect(create('causal').hash).toBe(UserEncoder.create(tokenizer, small).hash);
  for (const [attention, message] of [
    ['sideways', "'sideways' is neither"],
    [{ position: 'sinusoidal', window: 4 }, "there is no position 'sinusoidal'"],
    [{ position: 'rotary' }, 'a window of undefined events'],
    [{ position: 'rotary', window: 1 }, 'a window of 1 events'],
    [{ position: 'rotary', window: 4, size: 4 }, 'there is no such option; there are position, window'],
    [{ position: 'rotary', window: 17 }, 'a window of 17 events is never filled in a context of 16'],
  ] as const) {
    expect(() => create(attention)).toThrow(EncoderOptionError);
    expect(() => create(attention)).toThrow(message);
  }
  expect(() => create({ position: 'rotary', window: 4 }, { width: 6 })).toThrow('a head is 3 wide');
});
