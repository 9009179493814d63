import {
  concatEvents,
  dropLast,
  takeLast,
  takeUsers,
  TokenizerMismatchError,
  type EventColumns,
} from '@user-llm/event-tokenizer';
import { Program, Random } from '@user-llm/onnx-autograd';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bagSizes, vector } from '../src/event-feeds.js';
import {
  contrastive,
  EncoderOptionError,
  EventOrderError,
  NoItemScoresError,
  StateFormatError,
  StateMismatchError,
  UserEncoder,
  type Band,
  type UserEmbedding,
} from '../src/index.js';
import { inferenceDefinition } from '../src/model.js';
import { windowFeeds } from '../src/window-feeds.js';
import { cinema, cinemaRows, collect, largestDifference, ratings, small, unsettled } from './support.js';

const { tokenizer, events } = await cinema({ users: 4, events: 90 });
const window = 8;
const created = (attention: Band, seed = 7): UserEncoder =>
  unsettled(UserEncoder.create(tokenizer, { ...small, attention, seed }, { threads: 1 }));

/** Events `from` to `to` of a history. */
const part = (history: EventColumns, from: number, to: number): EventColumns =>
  takeLast(dropLast(history, history.offsets[1] - to), to - from);

/** Encodes the first events and reads the others in batches that end at `cuts`. */
async function inBatches(encoder: UserEncoder, history: EventColumns, cuts: readonly number[]): Promise<UserEmbedding> {
  let found = await encoder.encodeUser(part(history, 0, cuts[0]), 0, { state: true, writtenAt: 1 });
  for (const [i, cut] of cuts.slice(1).entries())
    found = await encoder.update(found.state, part(history, cuts[i], cut), { writtenAt: 1 });
  return found;
}

/** One pass over the whole history. */
async function onePass(encoder: UserEncoder, history: EventColumns): Promise<Float32Array> {
  const length = history.offsets[1];
  const program = await Program.create(inferenceDefinition({ ...encoder.config, context: length }), {
    weights: encoder.weights,
    outputs: ['tokens'],
  });
  const windows = [{ start: 0, end: length }];
  const { tokens } = await program.run({
    ...windowFeeds(encoder.config, history, windows, length, bagSizes(encoder.config.fields, history)),
    lengths: vector([length]),
  });
  await program.dispose();
  return tokens.data as Float32Array;
}

describe.each(['rotary', 'rotary-time', 'relative-time'] as const)('updates with %s positions', (position) => {
  const encoder = created({ position, window });
  const history = takeUsers(events, ['user-1']);
  const count = history.offsets[1];
  let whole: Float32Array;
  beforeAll(async () => {
    whole = await onePass(encoder, history);
  });
  afterAll(() => encoder.dispose());

  test('any split of a history into batches gives the embedding of one pass', async () => {
    const random = Random.of('splits', position);
    for (let round = 0; round < 12; round++) {
      const cuts = new Set([count]);
      // From one batch to every event alone.
      for (let i = 0; i < [0, 1, 3, 20, 400][round % 5]; i++) cuts.add(random.integer(count));
      const sorted = [...cuts].sort((a, b) => a - b);
      const found = await inBatches(encoder, history, sorted);
      expect([sorted, largestDifference(found.data, whole) < 1e-5]).toEqual([sorted, true]);
      expect(found).toMatchObject({
        user: 'user-1',
        encoder: encoder.hash,
        sequence: count,
        watermark: { count, time: history.times[count - 1] },
        shape: [4, 16],
      });
    }
  });

  test('the state says the same of the next event, whatever made it', async () => {
    const known = part(history, 0, count - 1);
    const next = part(history, count - 1, count);
    const [direct] = await collect(encoder.encode(concatEvents([known, takeUsers(events, ['user-2'])]), { state: true }));
    for (const state of [direct.state, (await inBatches(encoder, known, [3, 40, count - 1])).state])
      expect(largestDifference((await encoder.update(state, next)).data, whole)).toBeLessThan(1e-5);
  });

  test('an update leaves the state it began from, and no new event changes nothing', async () => {
    const before = await encoder.encodeUser(part(history, 0, 30), 0, { state: true });
    const kept = before.state!.slice();
    await encoder.update(before.state, part(history, 30, 35));
    expect(before.state).toEqual(kept);
    const same = await encoder.update(before.state, part(history, 30, 30));
    expect(same.state).toEqual(kept);
    expect(largestDifference(same.data, before.data)).toBeLessThan(1e-5);
  });

  test('a user in memory: event by event, from nothing, and on from bytes', async () => {
    const live = encoder.open();
    expect(largestDifference(await live.tokens(), (await encoder.encodeUser(part(history, 0, 0), 0)).data)).toBeLessThan(1e-6);
    for (let i = 0; i < 50; i++) await live.add(part(history, i, i + 1));
    const other = encoder.open(live.state());
    await Promise.all([live.add(part(history, 50, count)), other.add(part(history, 50, count))]);
    for (const user of [live, other]) expect(largestDifference(await user.tokens(), whole)).toBeLessThan(1e-5);
    expect([live.count, live.time]).toEqual([count, history.times[count - 1]]);
    const scores = await encoder.scoreHistory(history, 0);
    const found = await live.scores();
    expect([...found.subarray(0, 4)]).toEqual(Array.from({ length: 4 }, () => -Infinity));
    expect(largestDifference(found.subarray(4), scores.subarray(4))).toBeLessThan(1e-4);
  });

  test('the gap before the first new event comes from the state, known to the tokenizer or not', async () => {
    const [film] = cinemaRows({ users: 1, events: 1 });
    const rows = [0, 3700, 90_000].map((after, i) => ({ ...film, film: `film-${i}`, at: 1_700_000_000 + after }));
    const expected = (await encoder.encodeUser(await tokenizer.encode(rows), 0)).data;
    const { state } = await encoder.encodeUser(await tokenizer.encode(rows.slice(0, 1)), 0, { state: true });
    for (const previousTime of [undefined, 1_700_000_000]) {
      const fresh = await tokenizer.encode(rows.slice(1), previousTime === undefined ? {} : { previousTime });
      expect(largestDifference((await encoder.update(state, fresh)).data, expected)).toBeLessThan(1e-5);
    }
  });

  test('events whose time is unknown', async () => {
    const rows = cinemaRows({ users: 1, events: 30 }).map((row, i) => (i % 7 === 3 ? { ...row, at: null } : row));
    const log = await tokenizer.encode(rows);
    expect(log.times.some(Number.isNaN)).toBe(true);
    const expected = await onePass(encoder, log);
    for (const cuts of [
      [0, 30],
      [3, 4, 5, 11, 30],
      [10, 24, 29, 30],
    ])
      expect(largestDifference((await inBatches(encoder, log, cuts)).data, expected)).toBeLessThan(1e-5);
  });

  test('in fewer bits a state is smaller and near, and stays so over many updates', async () => {
    const errors: Record<string, number> = {};
    for (const dtype of ['float16', 'int8'] as const) {
      let found = await encoder.encodeUser(part(history, 0, 20), 0, { state: dtype });
      expect(found.state).toHaveLength(encoder.stateBytes(dtype));
      for (let i = 20; i < count; i++) found = await encoder.update(found.state, part(history, i, i + 1));
      expect(found.state).toHaveLength(encoder.stateBytes(dtype));
      errors[dtype] = largestDifference(found.data, whole);
    }
    expect(errors.float16).toBeGreaterThan(0);
    expect(errors.float16).toBeLessThan(5e-3);
    expect(errors.int8).toBeGreaterThan(errors.float16);
    expect(errors.int8).toBeLessThan(0.1);
    const [full, half, byte] = (['float32', 'float16', 'int8'] as const).map((dtype) => encoder.stateBytes(dtype));
    expect(full).toBeGreaterThan(4 * (2 * small.layers + 1) * window * small.width);
    expect(half).toBeLessThan(0.6 * full);
    expect(byte).toBeLessThan(half);
  });

  test('positions far out are as good as near ones', async () => {
    const { state } = await encoder.encodeUser(part(history, 0, 60), 0, { state: true });
    const next = part(history, 60, 61);
    const near = await encoder.update(state, next);
    // The user read a billion events before these: positions and rotation move, distances do not.
    const live = encoder.open(state);
    const far = (live as unknown as { current: { position: number } }).current;
    const shift = window * 125_000_000;
    turn(far as never, shift, position);
    await live.add(next);
    expect(largestDifference(await live.tokens(), near.data)).toBeLessThan(1e-5);
  });
});

/** Moves a state's positions on by a multiple of the window, its keys turned with them. */
function turn(state: { position: number; cache: Float32Array }, shift: number, position: Band['position']): void {
  state.position += shift;
  if (position === 'relative-time') return;
  const head = small.width / small.heads;
  const half = head / 2;
  // The other pairs are turned by time, which does not move.
  const placed = position === 'rotary-time' ? Math.ceil(half / 2) : half;
  const size = window * small.width;
  for (let layer = 0; layer < small.layers; layer++)
    for (let at = 2 * layer * size; at < (2 * layer + 1) * size; at += head)
      for (let i = 0; i < placed; i++) {
        const angle = shift * 10_000 ** (-i / placed);
        const [x, y] = [state.cache[at + i], state.cache[at + half + i]];
        state.cache[at + i] = x * Math.cos(angle) - y * Math.sin(angle);
        state.cache[at + half + i] = y * Math.cos(angle) + x * Math.sin(angle);
      }
}

describe('what cannot be gone on from is said', () => {
  const encoder = created({ position: 'rotary', window });
  const history = takeUsers(events, ['user-0']);

  test('bytes that are no state, or damaged, cut, of a newer release', async () => {
    const { state } = await encoder.encodeUser(part(history, 0, 40), 0, { state: true });
    const next = part(history, 40, 41);
    const failure = (bytes: unknown): Promise<unknown> =>
      encoder.update(bytes as Uint8Array, next).then(
        () => 'no error',
        (error: unknown) => error,
      );
    const random = Random.of('damage');
    for (let round = 0; round < 160; round++) {
      const damaged = state!.slice();
      // Every byte of the header, and some of the numbers.
      damaged[round < 128 ? round : random.integer(damaged.length)] ^= 1 << random.integer(8);
      const error = await failure(damaged);
      expect([round, StateFormatError.isInstance(error)]).toEqual([round, true]);
    }
    for (const [bytes, message] of [
      [undefined, 'it is absent (an embedding has a state only where it was encoded with one)'],
      [new Uint8Array(0), 'it does not begin as one'],
      [new Float32Array(100), 'it is no Uint8Array'],
      [state!.subarray(0, state!.length - 1), 'it was cut'],
      [Uint8Array.of(...state!.subarray(0, 4), 2, ...state!.subarray(5)), 'it has version 2, and this release reads up to 1'],
    ] as const) {
      const error = await failure(bytes);
      expect(error).toBeInstanceOf(StateFormatError);
      expect((error as Error).message).toContain(message);
    }
    // At any offset of a larger buffer, as a store may give it.
    const inside = new Uint8Array(state!.length + 3);
    inside.set(state!, 3);
    expect((await encoder.update(inside.subarray(3), next)).watermark.count).toBe(41);
  });

  test('the state of another encoder, events of another tokenizer, of several users, and late ones', async () => {
    const { state } = await encoder.encodeUser(part(history, 0, 40), 0, { state: true });
    const next = part(history, 40, 41);
    const other = created({ position: 'rotary', window }, 8);
    await expect(other.update(state, next)).rejects.toThrow(StateMismatchError);
    await expect(other.update(state, next)).rejects.toThrow(`this state is of encoder ${encoder.hash.slice(0, 12)}`);
    const { tokenizer: foreign, events: foreignEvents } = await cinema({ films: 5 });
    const stranger = UserEncoder.create(foreign, { ...small, attention: { position: 'rotary', window } });
    await expect(stranger.update(state, takeUsers(foreignEvents, [0]))).rejects.toThrow(StateMismatchError);
    await expect(encoder.update(state, takeUsers(foreignEvents, [0]))).rejects.toThrow(TokenizerMismatchError);
    await expect(encoder.update(state, events)).rejects.toThrow('a state is of one user, and these events are of 4');

    const earlier = part(history, 38, 39);
    const error = await encoder.update(state, earlier).catch((thrown: unknown) => thrown);
    expect(EventOrderError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ time: history.times[38], last: history.times[39], index: 0 });
    const live = encoder.open(state);
    await expect(live.add(earlier)).rejects.toThrow('a state only goes forward');
    expect(live.count).toBe(40);
  });

  test('an event before the last known time, after one whose time is unknown', async () => {
    const of = (at: number | null) => tokenizer.encode([{ user: 'new', film: 'film-1', at }]);
    const known = await encoder.encodeUser(await of(1000), 0, { state: true });
    const unknown = await encoder.update(known.state, await of(null));
    const error = await encoder.update(unknown.state, await of(500)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ time: 500, last: 1000, index: 0 });
    await expect(encoder.open(unknown.state).add(await of(500))).rejects.toThrow(EventOrderError);
    expect((await encoder.update(unknown.state, await of(1000))).watermark.count).toBe(3);
    // Where no time is known, any may follow; one before 1970 too.
    const nothing = await encoder.encodeUser(await of(null), 0, { state: true });
    expect((await encoder.update(nothing.state, await of(-500))).watermark.count).toBe(2);
  });

  test('an encoder without a band keeps no state', async () => {
    const learned = UserEncoder.create(tokenizer, small);
    await expect(learned.encodeUser(events, 0, { state: true })).rejects.toThrow(EncoderOptionError);
    await expect(learned.update(new Uint8Array(4), events)).rejects.toThrow('without a band every event moves the places of all');
    expect(() => learned.open()).toThrow(EncoderOptionError);
    expect(() => learned.stateBytes()).toThrow(EncoderOptionError);
    await expect(encoder.encodeUser(events, 0, { state: 'float8' as never })).rejects.toThrow("there is no dtype 'float8'");
  });

  test('an encoder that contrastive training alone made scores nothing, of a user in memory either', async () => {
    const made = await encoder.pretrain(events, { objective: contrastive(), steps: 1, validation: 'none', threads: 1 }).result;
    const live = made.open();
    await live.add(part(history, 0, 2));
    await expect(live.scores()).rejects.toThrow(NoItemScoresError);
    expect(await live.tokens()).toHaveLength(4 * 16);
    await made.dispose();
  });

  test('an encoder that was disposed', async () => {
    const gone = created({ position: 'rotary', window });
    const live = gone.open();
    await live.add(part(history, 0, 2));
    await gone.dispose();
    await expect(live.add(part(history, 2, 3))).rejects.toThrow('this encoder was disposed');
    await expect(live.tokens()).rejects.toThrow('this encoder was disposed');
  });
});

const real = await ratings();
(real ? describe : describe.skip)('on MovieLens (../shared/data/ml-latest-small)', () => {
  test.each(['rotary', 'rotary-time', 'relative-time'] as const)('histories far longer than the window, %s', async (position) => {
    const { tokenizer: fitted, events: log } = real!;
    const attention = { position, window: 32 };
    const encoder = unsettled(
      UserEncoder.create(fitted, { width: 32, layers: 3, heads: 4, context: 64, userTokens: 4, attention, seed: 3 }),
    );
    const counts = log.users.map((_, user) => log.offsets[user + 1] - log.offsets[user]);
    const long = counts.flatMap((count, user) => (count > 400 && count < 700 ? [user] : [])).slice(0, 3);
    expect(long).toHaveLength(3);
    for (const user of long) {
      const history = takeUsers(log, [user]);
      const count = history.offsets[1];
      const found = await inBatches(encoder, history, [count - 300, count - 299, count - 150, count - 1, count]);
      expect(largestDifference(found.data, await onePass(encoder, history))).toBeLessThan(1e-5);
    }
    await encoder.dispose();
  });
});
