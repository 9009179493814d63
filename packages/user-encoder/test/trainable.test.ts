import { dropLast, takeUsers, UnknownUserError, type EventColumns } from '@user-llm/event-tokenizer';
import { graph, Program, sgd, Trainer, type Feeds, type Weights } from '@user-llm/onnx-autograd';
import { describe, expect, test } from '@jest/globals';
import { EncoderOptionError, UserEncoder, type History, type TrainableEncoder } from '../src/index.js';
import { cinema, cinemaRows, collect, largestDifference, small } from './support.js';

const { tokenizer, events } = await cinema();
const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
const trainable = encoder.trainable(events);
const size = small.userTokens * small.width;

const tokensOf = async (
  through: TrainableEncoder<UserEncoder>,
  histories: History[],
  sizes?: { windows?: number; events?: number },
): Promise<Float32Array[]> => {
  const definition = graph(({ builder }) => ({ tokens: through.build(builder).tokens }));
  await using program = await Disposable.of(Program.create(definition, { weights: through.weights }));
  const { tokens } = await program.value.run(through.feeds(histories, sizes));
  return histories.map((_, i) => (tokens.data as Float32Array).slice(i * size, (i + 1) * size));
};

/** Disposes of a program when the block ends, also in runtimes without `using`. */
class Disposable<T extends { dispose(): Promise<void> }> {
  private constructor(readonly value: T) {}
  static async of<T extends { dispose(): Promise<void> }>(value: Promise<T>): Promise<Disposable<T>> {
    return new Disposable(await value);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.value.dispose();
  }
}

/** The first `end` events of a user. */
const cut = (user: string, end: number): EventColumns => {
  const own = takeUsers(events, [user]);
  return dropLast(own, own.offsets[1] - end);
};

describe('the trainable form', () => {
  test('gives for each history what encoding it alone gives', async () => {
    const histories = [
      { user: 'user-8', end: 7 },
      { user: 'user-5', end: 0 },
      { user: 8, end: 12 },
      { user: 'user-8', end: 1 },
      { user: 'user-11', end: 9 },
      { user: 'user-0', end: 20 },
    ];
    const found = await tokensOf(trainable, histories);
    for (const [i, { user, end }] of histories.entries()) {
      const name = typeof user === 'number' ? events.users[user] : user;
      const { data } = await encoder.encodeUser(cut(name, end), name);
      expect(largestDifference(found[i], data)).toBeLessThan(1e-5);
    }
  });

  test('histories of one user share a window; padding to other sizes changes nothing', async () => {
    const histories = [5, 12, 9].map((end) => ({ user: 'user-4', end }));
    const feeds = trainable.feeds(histories);
    expect(feeds['events.film'].shape).toEqual([1, 16]);
    expect([...(feeds['rows'].data as Int32Array)]).toEqual([0, 0, 0]);
    expect([...(feeds['lengths'].data as Int32Array)]).toEqual([5, 12, 9]);
    const padded = trainable.feeds(histories, { windows: 3, events: 14 });
    expect(padded['events.film'].shape).toEqual([3, 14]);
    const [plain, other] = [
      await tokensOf(trainable, histories),
      await tokensOf(trainable, histories, { windows: 3, events: 14 }),
    ];
    histories.forEach((_, i) => expect(largestDifference(plain[i], other[i])).toBeLessThan(1e-5));
  });

  test('past the context an earlier history keeps at least half of it, or gets a window of its own', () => {
    // user-0 has 20 events, the context is 16: the window of end 20 starts at event 4.
    const feeds = trainable.feeds([20, 13, 11, 2].map((end) => ({ user: 'user-0', end })));
    expect([...(feeds['rows'].data as Int32Array)]).toEqual([0, 0, 1, 1]);
    expect([...(feeds['lengths'].data as Int32Array)]).toEqual([16, 9, 11, 2]);
  });

  test('what comes after a history has no influence on it, and gets no gradient from it', async () => {
    const sizes = { users: 2, events: 10, films: 8 };
    const { tokenizer: same, events: full } = await cinema(sizes);
    const later = { film: 'film-1', genres: ['war'], rating: 5, review: 'changed' };
    const changed = await same.encode(
      cinemaRows(sizes).map((row, i) => (i >= 6 && row.user === 'user-0' ? { ...row, ...later } : row)),
    );
    const own = UserEncoder.create(same, { ...small, dropout: 0 });
    const histories = [
      { user: 'user-0', end: 6 },
      { user: 'user-0', end: 10 },
    ];
    const [before, after] = [await tokensOf(own.trainable(full), histories), await tokensOf(own.trainable(changed), histories)];
    expect(largestDifference(before[0], after[0])).toBe(0);
    expect(largestDifference(before[1], after[1])).toBeGreaterThan(1e-3);

    // Only the history of six events is in the loss: the films of events 7 to 10 alone keep their embeddings.
    const through = own.trainable(full);
    const step = await train(through, [{ user: 'user-0', end: 6 }], { end: 6, window: 10 });
    const table = step.get('encoder.fields.film')!.data as Float32Array;
    const start = own.weights.get('encoder.fields.film')!.data as Float32Array;
    const moved = Array.from(
      { length: table.length / 16 },
      (_, id) => largestDifference(table.subarray(id * 16, id * 16 + 16), start.subarray(id * 16, id * 16 + 16)) > 0,
    );
    const films = Array.from({ length: 10 }, (_, i) => same.id('film', `film-${(3 * i) % 8}`));
    const seen = new Set(films.slice(0, 6));
    expect(films.filter((id) => !seen.has(id)).length).toBeGreaterThan(0);
    moved.forEach((hasMoved, id) => expect([id, hasMoved]).toEqual([id, seen.has(id)]));
  });

  test('trains either part alone or both, and gives another encoder', async () => {
    const histories = [
      { user: 'user-1', end: 6 },
      { user: 'user-2', end: 6 },
    ];
    const { encoder: first, resampler: second } = trainable.parameterGroups;
    expect(first.some((name) => second.includes(name))).toBe(false);
    expect([...first, ...second].sort()).toEqual([...trainable.weights.keys()].sort());
    const hashes = new Set([encoder.hash]);
    for (const group of [first, second, [...first, ...second]]) {
      const weights = await train(trainable, histories, undefined, (name) => group.includes(name));
      for (const name of trainable.weights.keys())
        if (!group.includes(name))
          expect(
            largestDifference(weights.get(name)!.data as Float32Array, encoder.weights.get(name)!.data as Float32Array),
          ).toBe(0);
      const next = trainable.withWeights(
        new Map([...weights, ['model.embed', { dtype: 'float32', shape: [1], data: Float32Array.of(1) }]]),
      );
      hashes.add(next.hash);
      expect([...next.weights.keys()]).toEqual([...encoder.weights.keys()]);
      expect((await collect(next.encode(events)))[0].encoder).toBe(next.hash);
    }
    expect(hashes.size).toBe(4);
    expect(encoder.hash).toBe(UserEncoder.create(tokenizer, small).hash);
  });

  test('scores moments of a history as the histories that end there', async () => {
    const moments = [
      { user: 'user-8', end: 7 },
      { user: 'user-11', end: 9 },
      { user: 'user-8', end: 12 },
      { user: 'user-5', end: 0 },
    ];
    const found = await encoder.scoreMoments(events, moments);
    for (const [i, { user, end }] of moments.entries())
      expect(largestDifference(found[i], await encoder.scoreHistory(cut(user, end), user))).toBeLessThan(1e-5);
    const bidirectional = UserEncoder.create(tokenizer, { ...small, attention: 'bidirectional' }, { threads: 1 });
    await expect(bidirectional.scoreMoments(events, moments)).rejects.toThrow('sees what came after');
  });

  test('stands in a scope of a bigger graph', () => {
    const { builder } = graph(({ builder: root }) => ({ tokens: trainable.build(root.scope('encoder')).tokens })).build({
      training: true,
    });
    expect([...builder.parameters.keys()].map((name) => name.replace(/^encoder\./, '')).sort()).toEqual(
      [...trainable.weights.keys()].sort(),
    );
    const inputs = [...builder.inputs.values()].filter(({ noise }) => !noise).map(({ name }) => name.replace(/^encoder\./, ''));
    expect(inputs.sort()).toEqual(Object.keys(trainable.feeds([{ user: 0, end: 3 }])).sort());
    expect([...trainable.weights.keys()].filter((name) => trainable.isResampler(name))).toEqual(
      trainable.parameterGroups.resampler,
    );
  });

  test('says what is wrong with a batch', () => {
    expect(() => trainable.feeds([])).toThrow('a batch has one history or more');
    expect(() => trainable.feeds([{ user: 'nobody', end: 1 }])).toThrow(UnknownUserError);
    expect(() => trainable.feeds([{ user: 0.5, end: 1 }])).toThrow(UnknownUserError);
    expect(() => trainable.feeds([{ user: 'user-3', end: 18 }])).toThrow('example 0 ends after 18 events of a user who has 17');
    expect(() => trainable.feeds([{ user: 0, end: 20 }], { events: 8 })).toThrow(EncoderOptionError);
    expect(() =>
      trainable.feeds(
        [0, 1, 2].map((user) => ({ user, end: 3 })),
        { windows: 2 },
      ),
    ).toThrow('need 3 windows and 2 were allowed');
    expect(() =>
      encoder.withWeights(new Map([['resampler.norm.bias', { dtype: 'float32', shape: [2], data: new Float32Array(2) }]])),
    ).toThrow("weight 'resampler.norm.bias'");
  });
});

/** One step of gradient descent towards tokens of zero sum of squares. `at` asserts that the window goes on after the history. */
async function train(
  through: TrainableEncoder<UserEncoder>,
  histories: History[],
  at?: { end: number; window: number },
  trainableNames: (name: string) => boolean = () => true,
): Promise<Weights> {
  const definition = graph(({ builder, constant }) => {
    const { tokens } = through.build(builder, { dropout: 0 });
    return {
      loss: tokens
        .mul(
          constant(
            Float32Array.from({ length: small.width }, (_, i) => i),
            [small.width],
          ),
        )
        .square()
        .mean(),
    };
  });
  await using trainer = await Disposable.of(
    Trainer.create(definition, {
      minimize: 'loss',
      optimizer: sgd({ learningRate: 0.01 }),
      seed: 1,
      weights: through.weights,
      trainable: trainableNames,
    }),
  );
  let feeds: Feeds = through.feeds(at ? [...histories, { user: histories[0].user, end: at.window }] : histories);
  // The window is long because of a second history, which is then left out of the batch.
  if (at) feeds = { ...feeds, ...Object.fromEntries(['rows', 'lengths'].map((name) => [name, firstOf(feeds[name])])) };
  await trainer.value.step(feeds);
  return trainer.value.weights();
}

const firstOf = (feed: Feeds[string]): Feeds[string] => ({ ...feed, shape: [1], data: feed.data.slice(0, 1) });
