import { dropLast, FIRST_VALUE_ID, takeUsers, type CategoricalColumn } from '@user-llm/event-tokenizer';
import { expect, jest, test } from '@jest/globals';
import { UserEncoder, type PretrainProgress } from '../src/index.js';
import { cinema, collect, small } from './support.js';

jest.setTimeout(60_000);

const { tokenizer, events } = await cinema({ users: 10, events: 14, films: 40 });
const encoder = UserEncoder.create(tokenizer, { ...small, dropout: 0 }, { threads: 1 });
const films = (events.fields.film as CategoricalColumn).ids;

const crossEntropy = (scores: Float32Array, target: number): number => {
  const top = Math.max(...scores);
  return top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0)) - scores[target];
};

test('the loss of the item is the cross-entropy of every event after its history, the first one after none', async () => {
  // A learning rate that changes nothing, and the whole log in one batch.
  const options = { steps: 2, batch: 10, learningRate: 1e-30, validation: 'none', threads: 1 } as const;
  const fresh = (await collect(encoder.pretrain(events, options))) as Extract<PretrainProgress, { kind: 'step' }>[];
  const trained = await encoder.pretrain(events, { ...options, steps: 120, learningRate: 5e-3 }).result;
  const [first, second] = (await collect(trained.pretrain(events, options))) as Extract<PretrainProgress, { kind: 'step' }>[];
  let sum = 0;
  let count = 0;
  for (let user = 0; user < events.users.length; user++) {
    const own = takeUsers(events, [user]);
    const has = own.offsets[1];
    for (let end = 0; end < has; end++) {
      // The scores of the special ids are taken out of what is returned; in the loss they take part.
      const scores = await trained.scoreHistory(dropLast(own, has - end), 0);
      sum += crossEntropy(scores.subarray(FIRST_VALUE_ID), films[events.offsets[user] + end] - FIRST_VALUE_ID);
      count++;
    }
  }
  // Special ids are never right, so a trained model gives them next to nothing.
  expect(sum / count).toBeLessThan(2);
  expect(Math.abs(first.losses.film - sum / count)).toBeLessThan(0.05);
  // The second epoch has the users in another order: the same losses in another float32 sum (its steps are 6e-8 of it).
  expect(Math.abs(first.losses.film / second.losses.film - 1)).toBeLessThan(5e-7);
  // Fresh heads know nothing: the logarithm of the number of ids.
  expect(fresh[0].losses.genres).toBeCloseTo(Math.log(4 + 5), 1);
  expect(fresh[0].losses.rating).toBeCloseTo(Math.log(4 + 3), 1);
});

test('validation is what scoring the histories without their last event gives', async () => {
  // Random vectors at first, so that not everything is found.
  const options = { steps: 20, batch: 4, learningRate: 3e-3, validateEvery: 20, itemVectors: 'as-they-are', threads: 1 } as const;
  const trained = await encoder.pretrain(events, options).result;
  let hits = 0;
  let gain = 0;
  const cases = events.users.map((_, user) => ({
    user,
    history: films.subarray(events.offsets[user], events.offsets[user + 1] - 1),
  }));
  const known = cases.filter(({ history }) => history.length > 0);
  const before = dropLast(events, 1);
  for (const { user, history } of known) {
    const scores = await trained.scoreHistory(before, user);
    const target = films[events.offsets[user + 1] - 1];
    const ranked = Array.from(scores, (_, id) => id)
      .filter((id) => id >= FIRST_VALUE_ID && (id === target || !history.includes(id)))
      .sort((a, b) => scores[b] - scores[a]);
    const rank = ranked.indexOf(target);
    if (rank < 10) {
      hits++;
      gain += 1 / Math.log2(rank + 2);
    }
  }
  const { best } = trained.training!;
  expect(best!.users).toBe(known.length);
  expect(best!.hitAt10).toBeCloseTo(hits / known.length, 10);
  expect(best!.ndcgAt10).toBeCloseTo(gain / known.length, 10);
  expect(hits).toBeGreaterThan(0);
  expect(hits).toBeLessThan(known.length);
});

test('on a log of repeats an untrained encoder ranks by chance: what comes again stands among all items', async () => {
  // Everybody has met all films before the last event.
  const { tokenizer: ofRepeats, events: again } = await cinema({ users: 40, events: 100, films: 40 });
  const fresh = UserEncoder.create(ofRepeats, small, { threads: 1 });
  const options = { steps: 1, learningRate: 1e-30, itemVectors: 'as-they-are', threads: 1 } as const;
  const { training } = await fresh.pretrain(again, options).result;
  expect(training!.repeats).toBe('allowed');
  // Ten of forty.
  expect(training!.best!.hitAt10).toBeGreaterThan(0.05);
  expect(training!.best!.hitAt10).toBeLessThan(0.5);
  expect(training!.best!.ndcgAt10).toBeLessThan(0.25);
  await fresh.dispose();
});
