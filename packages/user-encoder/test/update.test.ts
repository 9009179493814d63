import {
  concatEvents,
  dropLast,
  takeLast,
  takeUsers,
  TokenizerMismatchError,
  type EventColumns,
} from '@user-llm/event-tokenizer';
import { Program, Random } from '@user-llm/onnx-autograd';
import { crc32 } from 'node:zlib';
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
    found = await encoder.update(found, part(history, cuts[i], cut), { writtenAt: 1 });
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

describe('whose an update is', () => {
  const encoder = created({ position: 'relative-time', window });
  const history = takeUsers(events, ['user-0']);
  const [known, next] = [part(history, 0, 40), part(history, 40, 41)];
  const foreign = part(takeUsers(events, ['user-1']), 40, 41);
  afterAll(() => encoder.dispose());

  test('the embedding says it: tenant and expiry go on, events of somebody else do not', async () => {
    const last = { ...(await encoder.encodeUser(known, 0, { state: true, tenant: 'acme' })), expiresAt: 2_000_000_000 };
    const updated = await encoder.update(last, next, { writtenAt: 5 });
    expect(updated).toMatchObject({ tenant: 'acme', user: 'user-0', sequence: 41, expiresAt: 2_000_000_000, writtenAt: 5 });
    expect(await encoder.update(updated, part(history, 41, 42))).toMatchObject({ tenant: 'acme', sequence: 42 });
    expect(await encoder.update(await encoder.encodeUser(known, 0, { state: true }), next)).not.toHaveProperty('expiresAt');

    const error = await encoder.update(last, foreign).catch((thrown: unknown) => thrown);
    expect(StateMismatchError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ what: 'user' });
    expect((error as Error).message).not.toContain('user-');
    await expect(encoder.update(last, next, { tenant: 'other' })).rejects.toThrow("option 'tenant': the embedding is of another");
    // Put into a store under another name, it is that name's.
    expect(await encoder.update({ ...last, tenant: 'moved' }, next)).toMatchObject({ tenant: 'moved' });
    await expect(encoder.update({ tenant: '', user: 'user-0' }, next)).rejects.toThrow('it is absent');
  });

  test('the bytes alone know it by a hash; the tenant is said', async () => {
    const { state } = await encoder.encodeUser(known, 0, { state: 'int8', tenant: 'acme' });
    expect(Buffer.from(state!).includes('user-0')).toBe(false);
    const updated = await encoder.update(state, next, { tenant: 'acme' });
    expect(updated).toMatchObject({ tenant: 'acme', user: 'user-0', sequence: 41 });
    await expect(encoder.update(state, next)).rejects.toThrow('another user or tenant than the new events');
    await expect(encoder.update(updated.state, foreign, { tenant: 'acme' })).rejects.toThrow(StateMismatchError);
    expect((await encoder.update(updated.state, part(history, 41, 42), { tenant: 'acme' })).sequence).toBe(42);
  });

  test('a user in memory is one user, from the first events on', async () => {
    const embedding = await encoder.encodeUser(known, 0, { state: true, tenant: 'acme' });
    for (const live of [encoder.open(embedding), encoder.open(embedding.state, { tenant: 'acme' })]) {
      await expect(live.add(foreign)).rejects.toThrow(StateMismatchError);
      await live.add(next);
      expect(live.count).toBe(41);
      expect(await encoder.update({ ...embedding, state: live.state() }, part(history, 41, 42))).toMatchObject({ sequence: 42 });
    }
    const fresh = encoder.open();
    // Nobody's yet, and so whoever's it becomes.
    expect((await encoder.update(fresh.state(), foreign)).user).toBe('user-1');
    await fresh.add(next);
    await expect(fresh.add(foreign)).rejects.toThrow(StateMismatchError);
    await expect(encoder.update(fresh.state(), foreign)).rejects.toThrow(StateMismatchError);
  });

  test.each(['float32', 'float16', 'int8'] as const)('states of version 1 do not know it, and are read, %s', async (dtype) => {
    const embedding = await encoder.encodeUser(known, 0, { state: dtype });
    const old = firstVersion(embedding.state!);
    const expected = await encoder.update(embedding, next);
    for (const last of [old, { ...embedding, state: old }]) {
      const updated = await encoder.update(last, next);
      expect(updated.data).toEqual(expected.data);
      expect(updated.state).toEqual(expected.state);
    }
    expect(largestDifference(await encoder.open(old).tokens(), embedding.data)).toBeLessThan(dtype === 'int8' ? 0.1 : 5e-3);
    await expect(encoder.update({ ...embedding, state: old }, foreign)).rejects.toThrow(StateMismatchError);
  });
});

/** The bytes as releases before the owner wrote them. */
function firstVersion(state: Uint8Array): Uint8Array {
  const bytes = Uint8Array.of(...state.subarray(0, 128), ...state.subarray(144));
  const view = new DataView(bytes.buffer);
  view.setUint16(4, 1, true);
  view.setUint32(12, bytes.length, true);
  view.setUint32(8, crc32(bytes.subarray(12), crc32(bytes.subarray(0, 8))), true);
  return bytes;
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
    for (let round = 0; round < 176; round++) {
      const damaged = state!.slice();
      // Every byte of the header, and some of the numbers.
      damaged[round < 144 ? round : random.integer(damaged.length)] ^= 1 << random.integer(8);
      const error = await failure(damaged);
      expect([round, StateFormatError.isInstance(error)]).toEqual([round, true]);
    }
    for (const [bytes, message] of [
      [undefined, 'it is absent (an embedding has a state only where it was encoded with one)'],
      [new Uint8Array(0), 'it does not begin as one'],
      [new Float32Array(100), 'it is no Uint8Array'],
      [state!.subarray(0, state!.length - 1), 'it was cut'],
      [null, 'it is no Uint8Array'],
      [Uint8Array.of(...state!.subarray(0, 4), 3, ...state!.subarray(5)), 'it has version 3, and this release reads up to 2'],
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
    const unknown = await encoder.update(known, await of(null));
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
    await expect(learned.update(await learned.encodeUser(events, 0), events)).rejects.toThrow(
      "create the encoder with { attention: { position: 'rotary', window: 50 } }, and encode with { state: true } what is to be updated",
    );
    expect(() => learned.open()).toThrow(EncoderOptionError);
    expect(() => learned.stateBytes()).toThrow(EncoderOptionError);
    const float8 = 'float8' as never;
    await expect(encoder.encodeUser(events, 0, { state: float8 })).rejects.toThrow("there is no dtype 'float8'");
    expect(() => encoder.stateBytes(float8)).toThrow("there is no dtype 'float8'; there are float32, float16 and int8");
    expect(() => encoder.open().state(float8)).toThrow(EncoderOptionError);
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
    const random = Random.of('splits of ratings', position);
    for (const user of long) {
      const history = takeUsers(log, [user]);
      const count = history.offsets[1];
      const whole = await onePass(encoder, history);
      for (let round = 0; round < 3; round++) {
        const places = Array.from({ length: [2, 5, 12][round] }, () => count - random.integer(Math.min(count, 350)));
        const cuts = [...new Set([...places, count])].sort((a, b) => a - b);
        const found = await inBatches(encoder, history, cuts);
        expect([user, cuts, largestDifference(found.data, whole) < 1e-5]).toEqual([user, cuts, true]);
      }
    }
    await encoder.dispose();
  });
});
