import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { dropLast, FIRST_VALUE_ID, takeUsers, type CategoricalColumn, type EventColumns } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import { afterAll, describe, expect, jest, test } from '@jest/globals';
import {
  combine,
  contrastive,
  dualEncoder,
  EncoderOptionError,
  fullSoftmax,
  gbce,
  maskedEvents,
  nextEvent,
  sampledSoftmax,
  UserEncoder,
  type ItemLoss,
  type Objective,
  type PretrainProgress,
} from '../src/index.js';
import { calibration } from '../src/objectives/item-loss.js';
import { takenAroundEvents, takenBeforeEvents, type TakenFeeds } from '../src/objectives/taken-items.js';
import { Sequences } from '../src/sequences.js';
import { cinema, cinemaRows, collect, small } from './support.js';

jest.setTimeout(60_000);

/** Nobody sees a film twice. */
const { tokenizer, events } = await cinema({ users: 10, events: 14, films: 40 });
const band = { ...small, dropout: 0, attention: { position: 'rotary', window: 6 } } as const;
const encoder = UserEncoder.create(tokenizer, band, { threads: 1 });
const films = (encoder.config.fields[0] as { size: number }).size - FIRST_VALUE_ID;
const idsOf = ({ fields }: EventColumns): Int32Array => (fields.film as CategoricalColumn).ids;
const options = { batch: 10, validation: 'none', threads: 1 } as const;
const trained = await encoder.pretrain(events, { ...options, steps: 80, learningRate: 5e-3 }).result;

const folder = await mkdtemp(path.join(tmpdir(), 'repeats-'));
afterAll(async () => {
  await rm(folder, { recursive: true });
  await encoder.dispose();
  await trained.dispose();
});

const logSumExp = (scores: readonly number[]): number => {
  const top = Math.max(...scores);
  return top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0));
};
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** At every event: the scores of all items as the head gives them, what came, and what the user had taken. */
async function moments(): Promise<{ scores: number[]; target: number; taken: number[] }[]> {
  const found = [];
  for (let user = 0; user < events.users.length; user++) {
    const own = takeUsers(events, [user]);
    for (let count = 0; count < own.offsets[1]; count++) {
      const history = dropLast(own, own.offsets[1] - count);
      const { state } = await trained.encodeUser(history, 0, { state: true });
      const scores = [...(await trained.open(state!).scores())].slice(FIRST_VALUE_ID);
      const ids = [...idsOf(own)].map((id) => id - FIRST_VALUE_ID);
      found.push({ scores, target: ids[count], taken: ids.slice(0, count) });
    }
  }
  return found;
}

/** The loss of the first step, which changes nothing. */
async function lossOf(loss: ItemLoss, repeats: 'never' | 'allowed'): Promise<number> {
  const run = trained.pretrain(events, { ...options, objective: nextEvent({ loss, repeats }), steps: 1, learningRate: 1e-30 });
  const [first] = (await collect(run)) as Extract<PretrainProgress, { kind: 'step' }>[];
  return first.losses.film;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe('where nobody takes an item again', () => {
  test.each([
    ['the full softmax', fullSoftmax(), 0.01],
    ['a sample that is all items', sampledSoftmax({ negatives: films }), 1e-4],
  ])('the next item is told from what the user has not taken: %s', async (_, loss, within) => {
    const cases = await moments();
    const among = (out: (taken: number[]) => number[]): number =>
      mean(
        cases.map(({ scores, target, taken }) => logSumExp(scores.filter((_, i) => !out(taken).includes(i))) - scores[target]),
      );
    // Special ids, which are never right, take part in the full softmax.
    expect(Math.abs((await lossOf(loss, 'never')) - among((taken) => taken))).toBeLessThan(within);
    expect(Math.abs((await lossOf(loss, 'allowed')) - among(() => []))).toBeLessThan(within);
    // What was taken is not kept down: among all items it would stand first.
    expect(among(() => []) - among((taken) => taken)).toBeGreaterThan(0.1);
  });

  test('the same by calibrated binary cross-entropy', async () => {
    const beta = calibration(films - 1, films, 0.75);
    const expected = mean(
      (await moments()).map(({ scores, target, taken }) => {
        const wrong = scores.filter((_, item) => item !== target && !taken.includes(item)).map(softplus);
        return (beta * softplus(-scores[target]) + wrong.reduce((a, b) => a + b, 0)) / (films + 1);
      }),
    );
    expect(Math.abs((await lossOf(gbce({ negatives: films }), 'never')) / expected - 1)).toBeLessThan(1e-4);
  });

  describe('other objectives do so too', () => {
    /** Of every user after some first events: the raw scores of items, what came and what was there before. */
    async function asked(encoder: UserEncoder, ends: (length: number) => number[]) {
      const { users, offsets } = events;
      const cases = users.flatMap((user, index) =>
        ends(offsets[index + 1] - offsets[index]).map((end) => ({ user, end, start: offsets[index] })),
      );
      const scores = await encoder.scoreMoments(events, cases, { raw: true });
      const ids = idsOf(events).map((id) => id - FIRST_VALUE_ID);
      return cases.map(({ start, end }, i) => ({
        scores: [...scores[i].subarray(FIRST_VALUE_ID)],
        target: ids[start + end],
        taken: [...ids.subarray(start, start + end)],
      }));
    }
    const firstLoss = async (of: UserEncoder, objective: Objective): Promise<number> => {
      const [first] = (await collect(of.pretrain(events, { ...options, objective, steps: 1, learningRate: 1e-30 }))) as Extract<
        PretrainProgress,
        { kind: 'step' }
      >[];
      return first.losses.film ?? first.losses['dual-encoder'];
    };

    test('masked events: a hidden item is told from those that are nowhere else in the history', async () => {
      const shape = { ...small, dropout: 0, attention: 'bidirectional' } as const;
      const created = UserEncoder.create(tokenizer, shape, { threads: 1 });
      // The last event alone is hidden, as in scoring.
      const loss = sampledSoftmax({ negatives: films });
      const objective = (repeats: 'never' | 'allowed') => maskedEvents({ last: 1, loss, repeats });
      // Trained for repeats, so that its scores are as the head gives them.
      const masked = await created.pretrain(events, { ...options, objective: objective('allowed'), steps: 20 }).result;
      const ids = idsOf(events).map((id) => id - FIRST_VALUE_ID);
      const cases: { scores: number[]; target: number; taken: number[] }[] = [];
      for (const [index, user] of events.users.entries()) {
        const [start, end] = events.offsets.subarray(index, index + 2);
        const scores = [...(await masked.scoreHistory(dropLast(takeUsers(events, [index]), 1), user)).subarray(FIRST_VALUE_ID)];
        cases.push({ scores, target: ids[end - 1], taken: [...ids.subarray(start, end - 1)] });
      }
      const among = (out: (taken: number[]) => number[]): number =>
        mean(
          cases.map(({ scores, target, taken }) => logSumExp(scores.filter((_, i) => !out(taken).includes(i))) - scores[target]),
        );
      expect(Math.abs((await firstLoss(masked, objective('never'))) - among((taken) => taken))).toBeLessThan(1e-4);
      expect(Math.abs((await firstLoss(masked, objective('allowed'))) - among(() => []))).toBeLessThan(1e-4);
      expect(among(() => []) - among((taken) => taken)).toBeGreaterThan(0.1);
      const told = await masked.pretrain(events, { ...options, objective: maskedEvents(), steps: 1 }).result;
      expect(told.training!.repeats).toBe('never');
      for (const one of [created, masked, told]) await one.dispose();
    });

    test('dual encoder: a label is told from those of items that the user has not taken', async () => {
      const objective = (repeats: 'never' | 'allowed') => dualEncoder({ negatives: 200, temperature: 0.5, repeats });
      const created = UserEncoder.create(tokenizer, { ...small, dropout: 0 }, { threads: 1 });
      const dual = await created.pretrain(events, { ...options, objective: objective('never'), steps: 5 }).result;
      expect(dual.training!.repeats).toBe('never');
      // All of the batch's targets are candidates; an item counts as often as it is one, over its share of those of the log.
      const cases = await asked(dual, (length) => Array.from({ length: length - 1 }, (_, i) => i + 1));
      const share = (item: number): number => cases.filter(({ target }) => target === item).length / cases.length;
      const among = (out: (taken: number[]) => number[]): number =>
        mean(
          cases.map(({ scores, target, taken }) => {
            const others = cases
              .map((other) => other.target)
              .filter((item) => item !== target && !out(taken).includes(item))
              .map((item) => scores[item] - Math.log(cases.length) - Math.log(share(item)));
            return logSumExp([scores[target], ...others]) - scores[target];
          }),
        );
      expect(Math.abs((await firstLoss(dual, objective('never'))) - among((taken) => taken))).toBeLessThan(1e-3);
      expect(Math.abs((await firstLoss(dual, objective('allowed'))) - among(() => []))).toBeLessThan(1e-3);
      expect(among(() => []) - among((taken) => taken)).toBeGreaterThan(0.05);
      await created.dispose();
      await dual.dispose();
    });

    test('dual encoder: by their fields too, what the user has taken has the lowest score that there can be', async () => {
      const temperature = 0.5;
      const created = UserEncoder.create(tokenizer, { ...small, dropout: 0 }, { threads: 1 });
      const towers = async (repeats: 'never' | 'allowed') =>
        created.pretrain(events, { ...options, objective: dualEncoder({ temperature, repeats }), steps: 3 }).result;
      const [never, allowed] = [await towers('never'), await towers('allowed')];
      const row = { ...cinemaRows({ films: 40 })[0], user: 'catalogue' };
      const name = (id: number): string => tokenizer.vocabulary('film')[id];
      const taken = [...idsOf(takeUsers(events, [0]))].map(name);
      const others = tokenizer
        .vocabulary('film')
        .slice(FIRST_VALUE_ID)
        .filter((film) => !taken.includes(film));
      const catalogue = (films: readonly string[]) => tokenizer.encode(films.map((film) => ({ ...row, film })));
      const all = await catalogue([...taken, ...others, 'new']);
      const scores = await never.scoreItems(events, 0, all);
      expect(new Set(scores.subarray(0, taken.length))).toEqual(new Set([-1 / temperature]));
      expect(Math.min(...scores.subarray(taken.length))).toBeGreaterThan(-1 / temperature);
      // Whatever else is asked for.
      expect([...(await never.scoreItems(events, 0, await catalogue(taken.slice(0, 1))))]).toEqual([-1 / temperature]);
      expect(Math.min(...(await allowed.scoreItems(events, 0, all)))).toBeGreaterThan(-1 / temperature);
      // A folder of an earlier release says of the scores alone what they were told from.
      const place = path.join(folder, 'earlier');
      await never.save(place);
      const manifest = path.join(place, 'encoder.json');
      const saved = JSON.parse(await readFile(manifest, 'utf8')) as { training: { labelTower: { repeats?: string } } };
      delete saved.training.labelTower.repeats;
      await writeFile(manifest, JSON.stringify(saved));
      const earlier = await UserEncoder.load(place);
      expect(await earlier.scoreItems(events, 0, all)).toEqual(scores);
      for (const one of [created, never, allowed, earlier]) await one.dispose();
    });

    test('together with the next event, each by what it was told', async () => {
      const both = combine([nextEvent({ repeats: 'allowed' }), 1], [dualEncoder({ repeats: 'never' }), 0.1]);
      // The head that scores is the first one's.
      const created = UserEncoder.create(tokenizer, { ...small, dropout: 0 }, { threads: 1 });
      const trainedBoth = await created.pretrain(events, { ...options, steps: 3, objective: both }).result;
      expect(trainedBoth.training).toMatchObject({ itemHead: 'item', repeats: 'allowed', labelTower: { repeats: 'never' } });
      // The tower scores items by their fields all the same, also when it is loaded.
      const own = takeUsers(events, [0]);
      const byFields = await trainedBoth.scoreItems(events, 0, own);
      expect(new Set(byFields)).toEqual(new Set([Math.fround(-1 / 0.07)]));
      expect(trainedBoth.flops({ events: 8, output: 'direction' })).toBeGreaterThan(0);
      await trainedBoth.save(path.join(folder, 'both'));
      const loaded = await UserEncoder.load(path.join(folder, 'both'));
      expect(await loaded.scoreItems(events, 1, own)).toEqual(await trainedBoth.scoreItems(events, 1, own));
      for (const one of [created, trainedBoth, loaded]) await one.dispose();
      for (const objective of [dualEncoder, maskedEvents])
        expect(() => objective({ repeats: 'often' as never })).toThrow(EncoderOptionError);
    });
  });

  test('what the user has taken has the lowest score of all, and the others those of the head', async () => {
    const [user] = events.users;
    const scores = await trained.scoreHistory(events, user);
    const taken = new Set(idsOf(takeUsers(events, [0])));
    const values = scores.subarray(FIRST_VALUE_ID);
    const lowest = Math.min(...values);
    for (const id of taken) expect(scores[id]).toBe(lowest);
    expect(values.filter((score) => score === lowest).length).toBeLessThanOrEqual(taken.size + 1);
    for await (const one of trained.nextItemScores(events)) if (one.user === user) expect(one.scores).toEqual(scores);
    const { state } = await trained.encodeUser(events, user, { state: true });
    const live = await trained.open(state!).scores(taken);
    const raw = await trained.open(state!).scores();
    for (let id = FIRST_VALUE_ID; id < scores.length; id++) expect(live[id]).toBeCloseTo(scores[id], 4);
    for (let id = FIRST_VALUE_ID; id < scores.length; id++) if (!taken.has(id)) expect(live[id]).toBe(raw[id]);
    const [early, late] = await trained.scoreMoments(
      events,
      [3, 14].map((end) => ({ user, end })),
    );
    const firstThree = new Set([...taken].slice(0, 3));
    const lowestEarly = Math.min(...early.subarray(FIRST_VALUE_ID));
    const [rawEarly] = await trained.scoreMoments(events, [{ user, end: 3 }], { raw: true });
    for (let id = FIRST_VALUE_ID; id < early.length; id++)
      expect(early[id]).toBe(firstThree.has(id) ? lowestEarly : rawEarly[id]);
    for (let id = FIRST_VALUE_ID; id < scores.length; id++) expect(late[id]).toBeCloseTo(scores[id], 4);
  });

  test('an item is accounted for among what the user has not taken', async () => {
    const before = dropLast(events, 1);
    const item = idsOf(takeUsers(events, [0]))[13];
    const { value } = await trained.attribute(before, 0, { of: { item } });
    const [last] = (await moments()).filter((_, i) => i === 13);
    const among = last.scores.filter((_, i) => !last.taken.includes(i));
    expect(Math.abs(value - (last.scores[item - FIRST_VALUE_ID] - logSumExp(among)))).toBeLessThan(1e-3);
    expect(Math.abs(value - (last.scores[item - FIRST_VALUE_ID] - logSumExp(last.scores)))).toBeGreaterThan(0.2);
  });
});

describe('whether users take an item again', () => {
  const found = async (objective: Objective) =>
    (await encoder.pretrain(events, { ...options, steps: 1, objective }).result).training!.repeats;

  test('is what the log shows, up to a slip in a hundred events', async () => {
    const long = await cinema({ users: 16, events: 20, films: 60 });
    expect(long.events.offsets[16]).toBe(200);
    const slipped = (count: number): EventColumns => {
      const ids = idsOf(long.events).slice();
      const { offsets } = long.events;
      // The last events of some users are of their first film.
      for (let user = 0; user < count; user++) ids[offsets[user + 1] - 1] = ids[offsets[user]];
      const film = { ...(long.events.fields.film as CategoricalColumn), ids };
      return { ...long.events, fields: { ...long.events.fields, film } };
    };
    const of = UserEncoder.create(long.tokenizer, small, { threads: 1 });
    for (const [slips, said] of [
      [0, 'never'],
      [2, 'never'],
      [3, 'allowed'],
    ] as const)
      expect((await of.pretrain(slipped(slips), { ...options, steps: 1 }).result).training!.repeats).toBe(said);
  });

  test('does not change where a log says events twice: nobody took anything again there', async () => {
    const once = cinemaRows({ users: 10, events: 14, films: 40 });
    const twice = await tokenizer.encode(once.flatMap((row, i) => (i % 5 === 0 ? [row, row] : [row])));
    expect(twice.times.length).toBeGreaterThan(1.15 * once.length);
    expect((await encoder.pretrain(twice, { ...options, steps: 1 }).result).training!.repeats).toBe('never');
  });

  test('is allowed where users take the same item several times in a row', async () => {
    const rows = cinemaRows({ users: 10, events: 14, films: 40 });
    const inARow = await tokenizer.encode(rows.map((row, i) => ({ ...row, film: rows[i - (i % 2)].film })));
    expect((await encoder.pretrain(inARow, { ...options, steps: 1 }).result).training!.repeats).toBe('allowed');
  });

  test('can be said, and is kept with the encoder, a second objective and a second run', async () => {
    expect(await found(nextEvent({ repeats: 'allowed' }))).toBe('allowed');
    expect(await found(combine([nextEvent(), 1], [contrastive(), 0.1]))).toBe('never');
    const embeddings = await trained.pretrain(events, { threads: 1, batch: 4, steps: 1, objective: contrastive() }).result;
    expect(embeddings.training!.repeats).toBe('never');
    expect(() => nextEvent({ repeats: 'often' as never })).toThrow(EncoderOptionError);
  });
});

describe('what is told of the events before', () => {
  const run = { config: encoder.config, events };
  const sequences = (augmentation: ConstructorParameters<typeof Sequences>[2]): Sequences =>
    new Sequences(events, [], augmentation);

  test('each item once, in the order of its first event, and how many came before each target', () => {
    const rows = [sequences({}).of({ start: 0, end: 5 }, Random.of(1)), null];
    const { feeds, places } = takenBeforeEvents(run, 'taken', rows, 6);
    expect([...places[0].keys()]).toEqual([...idsOf(events).subarray(0, 5)]);
    expect([...(feeds['taken.before'].data as Int32Array)]).toEqual([0, 1, 2, 3, 4, 0, ...new Array<number>(6).fill(0)]);
    expect(feeds['taken.ids'].shape[0]).toBe(2);
  });

  test('those before the window too, and those that augmentation left out', () => {
    const row = sequences({ drop: 0.5 }).of({ start: 4, end: 14 }, Random.of(3));
    expect(row.events.length).toBeLessThan(10);
    const { feeds } = takenBeforeEvents(run, 'taken', [row], row.events.length);
    expect([...(feeds['taken.before'].data as Int32Array)]).toEqual([...row.events]);
  });

  test('what was read a moment ago, where augmentation swapped it with what comes', () => {
    const ids = idsOf(events);
    const happened = Int32Array.of(2, 1, 0, 4, 3);
    const row = { events: happened, read: happened, unknown: new Uint8Array(5), first: false };
    const takenAt = ({ feeds, places }: TakenFeeds, targets: readonly number[]): number[][] => {
      const list = [...places[0].keys()];
      return targets.map((target, i) =>
        list.slice(0, (feeds['taken.before'].data as Int32Array)[i]).filter((id) => id !== ids[target]),
      );
    };
    const whole = takenAt(takenBeforeEvents(run, 'taken', [row], 5), [...happened]);
    happened.forEach((_, i) => {
      for (const event of happened.subarray(0, i)) expect(whole[i]).toContain(ids[event]);
    });
    // Also where the first event is no target.
    expect(takenAt(takenBeforeEvents(run, 'taken', [row], 4, 1), [...happened.subarray(1)])).toEqual(whole.slice(1));
  });

  test('around hidden events, all but these', () => {
    const rows = [null, sequences({}).of({ start: 4, end: 9 }, Random.of(1))];
    const { feeds, places } = takenAroundEvents(run, 'taken', rows, [[], [8, 5]], 3);
    const ids = idsOf(events);
    expect([...places[1].keys()]).toEqual([0, 1, 2, 3, 4, 6, 7].map((event) => ids[event]));
    expect([...(feeds['taken.before'].data as Int32Array)]).toEqual([0, 0, 0, 7, 7, 0]);
  });
});
