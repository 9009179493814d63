import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  dropLast,
  EventTokenizer,
  FIRST_VALUE_ID,
  takeUsers,
  type CategoricalColumn,
  type EventColumns,
} from '@user-llm/event-tokenizer';
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
  NoItemScoresError,
  sampledSoftmax,
  sequencePart,
  TrainingDataError,
  UserEncoder,
  type EncoderOptions,
  type Objective,
  type PretrainOptions,
  type PretrainProgress,
  type Sequence,
  type TrainingBatch,
} from '../src/index.js';
import { cinema, cinemaRows, collect, largestDifference, schema, small } from './support.js';

// Hundreds of training steps, on machines that may be busy.
jest.setTimeout(120_000);

const { tokenizer, events } = await cinema({ users: 16, films: 8 });
const causal = UserEncoder.create(tokenizer, small, { threads: 1 });
const bidirectional = UserEncoder.create(tokenizer, { ...small, attention: 'bidirectional' }, { threads: 1 });
const films = (events.fields.film as CategoricalColumn).ids;
const folder = await mkdtemp(path.join(tmpdir(), 'objectives-'));
afterAll(() => rm(folder, { recursive: true }));

const settings = { batch: 8, learningRate: 5e-3, threads: 1 } as const;

type Step = Extract<PretrainProgress, { kind: 'step' }>;
async function steps(encoder: UserEncoder, from: EventColumns, options: PretrainOptions): Promise<Step[]> {
  return (await collect(encoder.pretrain(from, options))).filter((progress): progress is Step => progress.kind === 'step');
}

const cases: Record<string, { encoder: UserEncoder; objective: Objective; below: number; knows: boolean; training?: number }> = {
  'next event, sampled softmax': {
    encoder: causal,
    objective: nextEvent({ loss: sampledSoftmax({ negatives: 5 }) }),
    training: 300,
    below: 0.5,
    knows: true,
  },
  'next event, popular negatives': {
    encoder: causal,
    objective: nextEvent({ loss: sampledSoftmax({ negatives: 64, draw: 'popularity' }) }),
    below: 0.4,
    knows: true,
  },
  'next event, calibrated binary': {
    encoder: causal,
    objective: nextEvent({ loss: gbce({ negatives: 6 }), others: 0 }),
    below: 0.4,
    knows: true,
    training: 300,
  },
  'masked events': {
    encoder: bidirectional,
    objective: maskedEvents({ share: 0.4, last: 0.3 }),
    below: 0.5,
    knows: true,
    training: 600,
  },
  'dual encoder': { encoder: causal, objective: dualEncoder({ negatives: 40 }), below: 0.6, knows: true },
  contrastive: { encoder: causal, objective: contrastive({ shortest: 3 }), below: 0.8, knows: false },
  'next event with contrastive': {
    encoder: causal,
    objective: combine([nextEvent(), 1], [contrastive(), 0.1]),
    below: 0.5,
    training: 200,
    knows: true,
  },
};

describe.each(Object.entries(cases))('%s', (name, { encoder, objective, below, knows, training = 150 }) => {
  test('training lowers the loss, and the item head knows what comes next', async () => {
    const run = encoder.pretrain(events, { ...settings, objective, steps: training, validation: 'none' });
    const seen = (await collect(run)).filter((progress): progress is Step => progress.kind === 'step');
    const mean = (some: Step[]): number => some.reduce((sum, { loss }) => sum + loss, 0) / some.length;
    expect(mean(seen.slice(-10))).toBeLessThan(below * mean(seen.slice(0, 5)));
    const trained = await run.result;
    if (!knows) {
      const error = await trained.scoreHistory(events, 0).catch((reason: unknown) => reason);
      expect(NoItemScoresError.isInstance(error)).toBe(true);
      expect((error as Error).message).toContain('has no item head');
      await expect(collect(trained.nextItemScores(events))).rejects.toThrow(NoItemScoresError);
      // It embeds, and it can be saved.
      expect((await trained.encodeUser(events, 0)).data).toHaveLength(small.userTokens * small.width);
    } else {
      let right = 0;
      for (let user = 0; user < 16; user++) {
        const scores = await trained.scoreHistory(events, user);
        const last = Number(tokenizer.vocabulary('film')[films[events.offsets[user + 1] - 1]].slice('film-'.length));
        const best = scores.indexOf(Math.max(...scores));
        if (tokenizer.vocabulary('film')[best] === `film-${(last + 3) % 8}`) right++;
      }
      expect(right).toBeGreaterThanOrEqual(14);
    }
    const place = path.join(folder, name.replaceAll(' ', '-'));
    await trained.save(place);
    const loaded = await UserEncoder.load(place);
    expect(loaded.hash).toBe(trained.hash);
    if (knows) expect(await loaded.scoreHistory(events, 3)).toEqual(await trained.scoreHistory(events, 3));
    else await expect(loaded.scoreHistory(events, 3)).rejects.toThrow(NoItemScoresError);
    await loaded.dispose();
    await trained.dispose();
  });

  test('a run that was stopped goes on to the same numbers', async () => {
    const file = path.join(folder, `${name.replaceAll(' ', '-')}.safetensors`);
    const options: PretrainOptions = {
      ...settings,
      objective,
      steps: 8,
      validateEvery: 4,
      schedule: 'cosine',
      averaging: { decay: 0.9 },
      augmentation: { crop: 0.2, drop: 0.1, swap: 0.1, corrupt: 0.1, unknown: 0.1 },
    };
    const whole = await encoder.pretrain(events, options).result;
    const stop = new AbortController();
    const broken = encoder.pretrain(events, {
      ...options,
      checkpoint: { file },
      signal: stop.signal,
      onProgress: (progress) => progress.kind === 'step' && progress.step === 5 && stop.abort(new Error('power cut')),
    });
    await expect(broken.result).rejects.toThrow('power cut');
    const resumed = encoder.pretrain(events, { ...options, checkpoint: { file } });
    expect((await collect(resumed)).filter(({ kind }) => kind === 'step').map(({ step }) => step)).toEqual([6, 7, 8]);
    const found = await resumed.result;
    expect(found.hash).toBe(whole.hash);
    expect(found.training!.losses).toEqual(whole.training!.losses);
    // Another objective is another run.
    await expect(
      encoder.pretrain(events, {
        ...options,
        objective: combine([objective.kind === 'combined' ? contrastive() : objective, 2]),
        checkpoint: { file },
      }).result,
    ).rejects.toThrow('other events, options');
  });
});

describe('the losses of whole models are those of their scores', () => {
  const { exp, log } = Math;
  const still = { steps: 1, batch: 16, learningRate: 1e-30, validation: 'none', threads: 1 } as const;
  const all = sampledSoftmax({ negatives: 1000 });
  /** Score of every film after the first `end` events of a user. */
  const scoresAt = async (encoder: UserEncoder, user: number, end: number): Promise<Float32Array> => {
    const own = takeUsers(events, [user]);
    return (await encoder.scoreHistory(dropLast(own, own.offsets[1] - end), 0)).subarray(FIRST_VALUE_ID);
  };
  const filmAt = (user: number, event: number): number => films[events.offsets[user] + event] - FIRST_VALUE_ID;
  const context = small.context;
  const withoutDropout = { ...small, dropout: 0 };
  // Users whose events fit one window.
  const short = takeUsers(
    events,
    events.users.filter((_, user) => events.offsets[user + 1] - events.offsets[user] <= context),
  );
  const shortUsers = short.users.map((user) => events.users.indexOf(user));
  const has = (user: number): number => events.offsets[user + 1] - events.offsets[user];

  test('sampled softmax over all items', async () => {
    const fresh = UserEncoder.create(tokenizer, withoutDropout, { threads: 1 });
    const trained = await fresh.pretrain(events, { ...settings, steps: 20, validation: 'none' }).result;
    const [{ losses }] = await steps(trained, short, { ...still, objective: nextEvent({ loss: all, others: 0 }) });
    let sum = 0;
    let count = 0;
    for (const user of shortUsers)
      for (let end = 0; end < has(user); end++) {
        if (has(user) < 2) continue;
        const scores = await scoresAt(trained, user, end);
        sum += log(scores.reduce((total, score) => total + exp(score), 0)) - scores[filmAt(user, end)];
        count++;
      }
    expect(losses.film).toBeCloseTo(sum / count, 4);
  });

  test('masked events: the last one is hidden, and everything before it is read', async () => {
    const fresh = UserEncoder.create(tokenizer, { ...withoutDropout, attention: 'bidirectional' }, { threads: 1 });
    const trained = await fresh.pretrain(events, { ...settings, objective: maskedEvents(), steps: 20, validation: 'none' })
      .result;
    const objective = maskedEvents({ last: 1, loss: all, others: 0 });
    const [{ losses }] = await steps(trained, short, { ...still, objective });
    let sum = 0;
    let count = 0;
    for (const user of shortUsers) {
      if (has(user) < 2) continue;
      const scores = await scoresAt(trained, user, has(user) - 1);
      sum += log(scores.reduce((total, score) => total + exp(score), 0)) - scores[filmAt(user, has(user) - 1)];
      count++;
    }
    expect(losses.film).toBeCloseTo(sum / count, 4);
  });

  test('dual encoder: labels of the batch, corrected by how often they come', async () => {
    const fresh = UserEncoder.create(tokenizer, withoutDropout, { threads: 1 });
    const objective = dualEncoder({ negatives: 1000, temperature: 0.5 });
    const trained = await fresh.pretrain(short, { ...settings, objective, steps: 20, validation: 'none' }).result;
    const [{ losses }] = await steps(trained, short, { ...still, objective });
    const users = shortUsers.filter((user) => has(user) >= 2);
    const labels = users.flatMap((user) => Array.from({ length: has(user) - 1 }, (_, i) => filmAt(user, i + 1)));
    // All that can be a label: not what users begin with.
    const share = (film: number): number => labels.filter((other) => other === film).length / labels.length;
    let sum = 0;
    for (const user of users)
      for (let end = 1; end < has(user); end++) {
        const scores = await scoresAt(trained, user, end);
        const right = scores[filmAt(user, end)];
        const others = labels
          .filter((label) => label !== filmAt(user, end))
          .reduce((total, label) => total + exp(scores[label]) / (labels.length * share(label)), 0);
        sum += log(exp(right) + others) - right;
      }
    expect(losses['dual-encoder']).toBeCloseTo(sum / labels.length, 4);
  });
});

test('dual encoder: items that users begin with are no likelier later on', async () => {
  // One of four films first, then any of twenty.
  const random = Random.of('begin');
  const rows = Array.from({ length: 300 }, (_, user) =>
    Array.from({ length: 4 }, (_, i) => ({
      ...cinemaRows()[0],
      user: `user-${user}`,
      film: `film-${random.integer(i === 0 ? 4 : 20)}`,
      at: 1_700_000_000 + i,
    })),
  ).flat();
  const drawn = await EventTokenizer.fit(schema, () => rows);
  const columns = await drawn.encode(rows);
  const encoder = UserEncoder.create(drawn, { ...small, fields: [], context: 4 }, { threads: 1 });
  const trained = await encoder.pretrain(columns, {
    ...settings,
    batch: 24,
    learningRate: 2e-3,
    objective: dualEncoder({ repeats: 'allowed' }),
    itemVectors: 'as-they-are',
    schedule: 'cosine',
    steps: 400,
    validation: 'none',
  }).result;
  const difference = { sum: 0, users: 40 };
  for (let user = 0; user < difference.users; user++) {
    const scores = await trained.scoreHistory(columns, user);
    const mean = (from: number, to: number): number => {
      let sum = 0;
      for (let film = from; film < to; film++) sum += scores[drawn.id('film', `film-${film}`)];
      return sum / (to - from);
    };
    difference.sum += mean(0, 4) - mean(4, 20);
  }
  // Were first events counted among the labels, it would be near the logarithm of (1/16 + 3/80) / (3/80), 0.98.
  expect(Math.abs(difference.sum / difference.users)).toBeLessThan(0.4);
  await encoder.dispose();
  await trained.dispose();
});

test('a bidirectional state sees what comes after, a causal one does not', async () => {
  const [full, cut] = [takeUsers(events, [0]), dropLast(takeUsers(events, [0]), 1)];
  const difference = async (encoder: UserEncoder): Promise<number> => {
    // Two histories of one user, one of them shorter: the longer one's window would show the shorter what it must not see.
    const feeds = encoder.trainable(full).feeds([
      { user: 0, end: 12 },
      { user: 0, end: 11 },
    ]);
    return feeds.lengths.data.length === 2 ? new Set(feeds.rows.data as Int32Array).size : 0;
  };
  expect(await difference(causal)).toBe(1);
  expect(await difference(bidirectional)).toBe(2);
  const [a, b] = [await bidirectional.scoreHistory(full, 0), await bidirectional.scoreHistory(cut, 0)];
  expect(largestDifference(a.subarray(FIRST_VALUE_ID), b.subarray(FIRST_VALUE_ID))).toBeGreaterThan(1e-5);
  // In a batch and alone, whatever the padding.
  const scores = await collect(bidirectional.nextItemScores(events));
  for (const user of [0, 9, 15])
    expect(
      largestDifference(
        scores[user].scores.subarray(FIRST_VALUE_ID),
        (await bidirectional.scoreHistory(events, user)).subarray(FIRST_VALUE_ID),
      ),
    ).toBeLessThan(1e-5);
});

test('combined losses are the weighted sum', async () => {
  const objective = combine([nextEvent({ others: 0 }), 2], [contrastive(), 0.25]);
  const [{ loss, losses }] = await steps(causal, events, { ...settings, objective, steps: 1, validation: 'none' });
  expect(Object.keys(losses)).toEqual(['film', 'contrastive']);
  expect(loss).toBeCloseTo(2 * losses.film + 0.25 * losses.contrastive, 5);
});

test('an item head that an earlier run trained stays when embeddings alone are trained', async () => {
  const first = await causal.pretrain(events, { ...settings, steps: 2 }).result;
  const second = await first.pretrain(events, { ...settings, steps: 2, objective: contrastive() }).result;
  expect(second.training).toMatchObject({ itemHead: 'item', validation: [], best: null });
  expect((await second.scoreHistory(events, 0)).length).toBe(4 + 8);
});

test('labels of an earlier run are made anew when embeddings alone are trained, which they are made of', async () => {
  const first = await causal.pretrain(events, { ...settings, steps: 2, objective: dualEncoder() }).result;
  const second = await first.pretrain(events, { ...settings, steps: 4, objective: contrastive() }).result;
  expect(second.training).toMatchObject({ itemHead: 'labels', labelTower: first.training!.labelTower });
  const scores = await second.scoreHistory(events, 0);
  // Every film of the log, with its fields.
  const own = takeUsers(events, [0]);
  const byFields = await second.scoreItems(events, 0, own);
  const ids = (own.fields.film as CategoricalColumn).ids;
  for (let event = 0; event < 8; event++) expect(byFields[event]).toBeCloseTo(scores[ids[event]], 4);
  expect(byFields[0]).not.toBeCloseTo((await first.scoreItems(events, 0, own))[0], 2);
  for (const one of [first, second]) await one.dispose();
});

test.each(['causal', 'bidirectional'] as const)(
  'contrastive does not tell a user’s windows from each other, %s',
  async (attention) => {
    // Long histories of two users who share no film: every batch has several windows of each.
    const rows = cinemaRows({ users: 2, events: 90 }).map((row) => ({
      ...row,
      film: `${String(row.film)} of ${String(row.user)}`,
    }));
    const two = await EventTokenizer.fit(schema, () => rows);
    const encoder = UserEncoder.create(two, { ...small, dropout: 0, context: 10, attention }, { threads: 1 });
    const seen = await steps(encoder, await two.encode(rows), {
      ...settings,
      objective: contrastive({ shortest: 3 }),
      itemVectors: 'as-they-are',
      steps: 20,
    });
    // Were windows of the same user to be told apart too, it would stay above the logarithm of their number.
    for (const { loss } of seen.slice(-5)) expect(loss).toBeLessThan(0.1);
    expect(seen[0].loss).toBeGreaterThan(0.1);
    await encoder.dispose();
  },
);

describe('an objective of one’s own needs nothing but the interface', () => {
  /** Of rows that it encodes on its own. */
  const smallStates = (rowsOf: (rows: TrainingBatch) => readonly (Sequence | null)[]): Objective => ({
    kind: 'small-states',
    itemHead: 'none',
    bind: ({ read }) => ({
      build({ builder, encode }) {
        const { states } = encode('mine', ['mine', 'mineEvents']);
        const loss = states.square().mean().add(builder.constant(1));
        return { loss, parts: { small: loss } };
      },
      feeds: (batch) => read(rowsOf(batch), batch.length, 'mine'),
    }),
  });
  const firstHalf = ({ sequences, length }: TrainingBatch) =>
    sequences.map((row) => row && sequencePart(row, 0, Math.ceil(length / 2)));

  test.each<[string, EncoderOptions['attention']]>([
    ['learned', 'causal'],
    ['relative-time', { position: 'relative-time', window: 4 }],
    ['rotary-time', { position: 'rotary-time', window: 4 }],
  ])('all fields of the events that it reads are fed, %s positions', async (_, attention) => {
    const encoder = UserEncoder.create(tokenizer, { ...small, attention }, { threads: 1 });
    const seen = await steps(encoder, events, { ...settings, objective: smallStates(firstHalf), steps: 10 });
    expect(seen[0].losses.small).toBeCloseTo(seen[0].loss, 6);
    expect(seen.at(-1)!.loss).toBeLessThan(seen[0].loss);
    await encoder.dispose();
  });

  test('a row that is too long is said', async () => {
    const whole = causal.pretrain(events, { ...settings, objective: smallStates(({ sequences }) => sequences), steps: 10 });
    await expect(whole.result).rejects.toThrow('cut them with sequencePart');
  });
});

test('what does not fit is said', async () => {
  const failing = async (encoder: UserEncoder, options: PretrainOptions): Promise<Error> =>
    encoder.pretrain(events, { ...settings, steps: 1, ...options }).result.then(
      () => new Error('nothing failed'),
      (error: Error) => error,
    );
  const wrong = await failing(causal, { objective: maskedEvents() });
  expect(EncoderOptionError.isInstance(wrong)).toBe(true);
  expect(wrong.message).toContain("create it with { attention: 'bidirectional' }");
  expect((await failing(bidirectional, {})).message).toContain('needs an encoder with causal attention');
  expect((await failing(causal, { objective: contrastive(), validation: 'last' })).message).toContain('scores no items');
  expect((await failing(causal, { objective: contrastive(), batch: 1 })).message).toBe(
    "option 'batch': contrastive tells the users of a batch apart, and 1 is one; give 2 or more",
  );
  const alone = await causal
    .pretrain(takeUsers(events, [0]), { ...settings, objective: contrastive(), steps: 1 })
    .result.catch((error: unknown) => error);
  expect(TrainingDataError.isInstance(alone)).toBe(true);
  expect((await failing(causal, { objective: dualEncoder({ fields: ['colour'] }) })).message).toContain('reads no field');
  expect((await failing(causal, { objective: dualEncoder({ fields: ['time'] }) })).message).toContain('describes no item');
  expect(() => combine([nextEvent(), 1], [maskedEvents(), 1])).toThrow('train an encoder for each');
  expect(() => combine([nextEvent(), 1], [nextEvent(), 1])).toThrow('stands twice');
  expect(() => combine([nextEvent(), 0])).toThrow('positive number');
  expect(() => combine()).toThrow('nothing to combine');
  expect(() => UserEncoder.create(tokenizer, { attention: 'sideways' as never })).toThrow(EncoderOptionError);
  const notCalled = nextEvent as unknown as Objective;
  expect((await failing(causal, { objective: notCalled })).message).toBe(
    "option 'objective': nextEvent was not called; write nextEvent()",
  );
  expect(() => combine([notCalled, 1])).toThrow('nextEvent was not called; write nextEvent()');
  expect(() => combine(nextEvent() as never)).toThrow('give [objective, weight]');
  expect((await failing(causal, { objective: 'nextEvent' as never })).message).toContain("'nextEvent' is no objective");
  for (const objective of [nextEvent, maskedEvents]) {
    expect(() => objective({ loss: sampledSoftmax as never })).toThrow('sampledSoftmax was not called; write sampledSoftmax()');
    expect(() => objective({ loss: 'sampled' as never })).toThrow('give fullSoftmax(), sampledSoftmax() or gbce()');
  }
  for (const bad of [
    () => sampledSoftmax({ negatives: 0 }),
    () => sampledSoftmax({ draw: 'often' as never }),
    () => gbce({ t: 2 }),
    () => maskedEvents({ share: 0 }),
    () => maskedEvents({ last: 2 }),
    () => dualEncoder({ temperature: 0 }),
    () => dualEncoder({ unknown: 1 }),
    () => contrastive({ temperature: -1 }),
    () => contrastive({ shortest: 0 }),
  ])
    expect(bad).toThrow(EncoderOptionError);
});

test.each<[string, (options: never) => unknown]>(
  Object.entries({ nextEvent, maskedEvents, dualEncoder, contrastive, fullSoftmax, sampledSoftmax, gbce }),
)('%s refuses what it has no option for', (name, make) => {
  expect(() => make({ colour: 5 } as never)).toThrow(`option '${name}.colour': there is no such option; there are `);
});

test.each<[string, UserEncoder, Objective]>([
  ['next event', causal, nextEvent({ weights: { film: 0 }, loss: sampledSoftmax({ negatives: 4 }) })],
  ['masked events', bidirectional, maskedEvents({ weights: { film: 0 }, loss: gbce({ negatives: 4 }) })],
])('%s without the item draws no negatives', async (_, encoder, objective) => {
  for (const itemTable of ['whole', 'rows'] as const) {
    const [{ loss, losses }] = await steps(encoder, events, { ...settings, objective, itemTable, steps: 1, validation: 'none' });
    expect(loss).toBeGreaterThan(0);
    expect(Object.keys(losses)).not.toContain('film');
  }
});

test.each<[string, EncoderOptions['attention'], Objective, PretrainOptions]>([
  ['masked events by calibrated binary loss', 'bidirectional', maskedEvents({ loss: gbce({ negatives: 5 }), share: 0.4 }), {}],
  [
    'rows of the item table in a band',
    { position: 'rotary', window: 6 },
    nextEvent({ loss: sampledSoftmax({ negatives: 5 }) }),
    { itemTable: 'rows' },
  ],
  [
    'rows of the item table in a band that reads times',
    { position: 'relative-time', window: 6 },
    dualEncoder({ negatives: 20 }),
    { itemTable: 'rows' },
  ],
])('%s: the losses are finite and fall', async (_, attention, objective, options) => {
  const encoder = UserEncoder.create(tokenizer, { ...small, dropout: 0, attention }, { threads: 1 });
  const seen = await steps(encoder, events, { ...settings, ...options, objective, batch: 16, steps: 24, validation: 'none' });
  expect(seen.every(({ loss }) => Number.isFinite(loss))).toBe(true);
  const mean = (some: Step[]): number => some.reduce((sum, { loss }) => sum + loss, 0) / some.length;
  expect(mean(seen.slice(-3))).toBeLessThan(0.95 * mean(seen.slice(0, 3)));
  await encoder.dispose();
});

test('a catalogue of one item trains', async () => {
  const { tokenizer, events } = await cinema({ films: 1 });
  const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
  const objective = nextEvent({ loss: gbce({ negatives: 4 }) });
  const [{ losses }] = await steps(encoder, events, { ...settings, objective, steps: 1, validation: 'none' });
  expect(losses.film).toBeGreaterThan(0);
});
