import { describe, expect, test } from '@jest/globals';
import {
  favouriteGenre,
  interactions,
  interactionsFromRows,
  InvalidLogError,
  leaveOneOut,
  nextItem,
  timeSplit,
  UNKNOWN_ITEM,
} from '../src/index.js';

const rows = [
  { user: 'ann', item: 'b', time: 2 },
  { user: 'ann', item: 'a', time: 1 },
  { user: 'bob', item: 'a', time: 1 },
  { user: 'ann', item: 'c', time: 2 },
  { user: 'bob', item: 'b', time: 5 },
  { user: 'ann', item: 'd', time: 2 },
];

describe('a log from rows', () => {
  const log = interactionsFromRows(rows);
  const itemsOf = (user: number): string[] =>
    [...log.items.subarray(log.offsets[user], log.offsets[user + 1])].map((item) => log.itemIds[item]);

  test('is sorted by time, and equal times keep the order of the file', () => {
    expect(log.users).toEqual(['ann', 'bob']);
    expect(itemsOf(0)).toEqual(['a', 'b', 'c', 'd']);
    expect(itemsOf(1)).toEqual(['a', 'b']);
  });
  test('is sorted around rows without a time, which keep their place', () => {
    const times = [5, undefined, 3, undefined];
    const { items, itemIds } = interactionsFromRows(times.map((time, i) => ({ user: 'ann', item: `item ${i}`, time })));
    expect([...items].map((item) => itemIds[item])).toEqual(['item 2', 'item 1', 'item 0', 'item 3']);
  });
  test.each<[string, object, string, string]>([
    [
      'of other names',
      { userId: 1, movieId: 7, timestamp: 3 },
      'user',
      'rows[1].user must be a string or a number and is undefined; the row has userId, movieId, timestamp. Give rows { user, item, time }.',
    ],
    [
      'with an item that is no id',
      { user: 1, item: { id: 7 } },
      'item',
      'rows[1].item must be a string or a number and is an object;',
    ],
    ['with a user that is no number', { user: NaN, item: 7 }, 'user', 'rows[1].user must be a string or a number and is NaN;'],
    [
      'with a date for a time',
      { user: 1, item: 7, time: '2024-03-01' },
      'time',
      'rows[1].time must be a number and is a string.',
    ],
  ])('is not made of rows %s', (_, row, field, message) => {
    let error: unknown;
    try {
      interactionsFromRows([{ user: 1, item: 7, time: 3 }, row as never]);
    } catch (thrown) {
      error = thrown;
    }
    expect(InvalidLogError.isInstance(error) && [error.field, error.message]).toEqual([field, expect.stringContaining(message)]);
  });
  test('takes titles and categories from the first row that has them', () => {
    const { titles, categories } = interactionsFromRows([
      { user: 'ann', item: 'a', time: 1 },
      { user: 'ann', item: 'b', time: 2, title: 'B' },
      { user: 'bob', item: 'a', time: 3, title: 'A', categories: ['Drama'] },
      { user: 'bob', item: 'b', time: 4, title: 'Another', categories: ['Horror'] },
    ]);
    expect([titles, categories]).toEqual([
      ['A', 'B'],
      [['Drama'], ['Horror']],
    ]);
  });
  test('takes titles and categories from the catalogue', () => {
    const { titles, categories } = interactionsFromRows(rows, {
      items: [{ id: 'b', title: 'Brazil', categories: ['Drama'] }, { id: 'never seen' }],
    });
    expect(titles).toEqual(['Brazil', 'a', 'c', 'd']);
    expect(categories).toEqual([['Drama'], [], [], []]);
  });
});

describe('a log from tokenised events', () => {
  const vocabulary = ['<pad>', '<mask>', '<unknown>', '<missing>', 'a', 'b'];
  const events = {
    users: ['ann'],
    offsets: Int32Array.of(0, 3),
    times: Float64Array.of(1, 2, 3),
    fields: {
      film: { kind: 'categorical', ids: Int32Array.of(4, 2, 5) },
      stars: { kind: 'number', ids: Int32Array.of(4, 4, 4) },
    },
  };

  test('keeps every event in its place; an unknown item stays an event', () => {
    const log = interactions(events, { itemField: 'film', vocabulary });
    expect(log.itemIds).toEqual(['a', 'b']);
    expect([...log.items]).toEqual([0, UNKNOWN_ITEM, 1]);
  });
  test('names the fields to choose from when the item field is wrong', () => {
    expect(() => interactions(events, { itemField: 'stars', vocabulary })).toThrow('Categorical fields: film.');
  });
  test('refuses a vocabulary of another tokenizer', () => {
    expect(() => interactions(events, { itemField: 'film', vocabulary: vocabulary.slice(0, 5) })).toThrow('has item id 5');
  });
  test('refuses events out of order, by user', () => {
    const times = Float64Array.of(3, 2, 1);
    let error: unknown;
    try {
      interactions({ ...events, times }, { itemField: 'film', vocabulary });
    } catch (thrown) {
      error = thrown;
    }
    expect(InvalidLogError.isInstance(error) && [error.field, error.user]).toEqual(['times', 'ann']);
  });
});

describe('columns that are no log', () => {
  // What a program in JavaScript, or one that casts, hands over: the tokenizer's columns as they are.
  const columns = {
    users: ['ann'],
    offsets: Int32Array.of(0, 3),
    times: Float64Array.of(1, 2, 3),
    fields: { film: { kind: 'categorical', ids: Int32Array.of(4, 5, 6) } },
  };
  test.each([
    ['leaveOneOut', leaveOneOut],
    ['timeSplit', timeSplit],
    ['favouriteGenre', favouriteGenre],
  ])('%s says how to make one of them', (_, split: (log: never) => unknown) => {
    let error: unknown;
    try {
      split(columns as never);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(InvalidLogError);
    expect((error as InvalidLogError).message).toContain('interactions(events, ');
    expect((error as InvalidLogError).field).toBe('items');
  });
  test.each([
    ['users', { users: undefined }],
    ['offsets', { offsets: undefined }],
    ['items', { items: [0, 1, 0] }],
    ['itemIds', { itemIds: undefined }],
  ])('a log without its %s is refused by that name', (field, change) => {
    const log = { ...interactionsFromRows(rows), ...change };
    expect(() => leaveOneOut(log as never)).toThrow(expect.objectContaining({ name: 'InvalidLogError', field }));
  });
});

test('a log that has an item twice is refused: a list could mean either', () => {
  const log = { users: ['ann'], offsets: Int32Array.of(0, 3), items: Int32Array.of(0, 1, 2), itemIds: ['a', 'b', 'a'] };
  expect(() => leaveOneOut(log)).toThrow('itemIds has "a" twice.');
});

describe('leave one out', () => {
  test('last event test, the one before it validation, the rest training', () => {
    const split = leaveOneOut(interactionsFromRows(rows));
    expect(split.test).toEqual([{ user: 0, from: 0, to: 3 }]);
    expect(split.validation).toEqual([{ user: 0, from: 0, to: 2 }]);
    expect([...split.trainEnd]).toEqual([2, 4]);
  });
  test('users with fewer than three events are left out and counted', () => {
    expect(leaveOneOut(interactionsFromRows(rows)).description.leftOut).toEqual({ users: 1, reason: 'fewer than 3 events' });
    expect(() => leaveOneOut(interactionsFromRows(rows.slice(2, 3)))).toThrow('No user of 1 can be tested');
    expect(() => leaveOneOut(interactionsFromRows([]))).toThrow(InvalidLogError);
  });
  test('the hash is of the events, not of the run', () => {
    const hash = (list: typeof rows): string => leaveOneOut(interactionsFromRows(list)).hash;
    expect(hash(rows)).toBe(hash(structuredClone(rows)));
    expect(hash(rows)).toMatch(/^[0-9a-f]{64}$/);
    expect(hash([...rows.slice(0, 5), { user: 'ann', item: 'a', time: 2 }])).not.toBe(hash(rows));
  });
  test('the hash of the favourite genre is of the catalogue too: other genres are another question', () => {
    const hash = (genres: string[]): string => {
      const items = genres.map((genre, i) => ({ id: 'abcd'[i], categories: [genre] }));
      return favouriteGenre(interactionsFromRows(rows, { items })).hash;
    };
    expect(hash(['Drama', 'Comedy', 'Drama', 'Drama'])).not.toBe(hash(['Drama', 'Drama', 'Comedy', 'Drama']));
  });
  test('test items met before are counted: no filtered ranking can hold them', () => {
    expect(leaveOneOut(interactionsFromRows([...rows, { user: 'ann', item: 'a', time: 9 }])).description.repeatedTargets).toBe(1);
  });
});

describe('what a task says of itself', () => {
  const log = interactionsFromRows(
    ['abcd', 'aabc', 'aaab', 'abbc'].flatMap((items, user) =>
      [...items].map((item, time) => ({ user, item, time, categories: [item] })),
    ),
  );
  test('asked for the validation items, it counts those, and says so', () => {
    const split = leaveOneOut(log);
    expect(nextItem(split).description).toEqual(split.description);
    expect(split.description).toMatchObject({ testUsers: 4, repeatedTargets: 0 });
    // The third events: a repetition of 'aa' and of 'ab'.
    const { description } = nextItem(split, { on: 'validation' });
    expect(description).toMatchObject({ testUsers: 4, repeatedTargets: 2, unknownTargets: 0 });
    expect(description.split).toBe(`${split.description.split}; asked for: the validation items`);
    const unknown = { ...log, items: log.items.map((item, i) => (i % 4 === 2 ? UNKNOWN_ITEM : item)) };
    expect(nextItem(leaveOneOut(unknown), { on: 'validation' }).description).toMatchObject({
      repeatedTargets: 0,
      unknownTargets: 4,
    });
  });
  test('and the users that have one', () => {
    const times = log.times!.map((time, i) => (i === 3 ? 2.5 : time));
    const split = timeSplit({ ...log, times }, { validationFrom: 2, testFrom: 3 });
    expect(split.description).toMatchObject({ testUsers: 3, leftOut: { users: 1 } });
    expect(nextItem(split, { on: 'validation' }).description).toMatchObject({
      testUsers: 4,
      leftOut: { users: 0, reason: 'no validation item' },
    });
  });
  test('favourite genre: no answer is a miss for what the last event is', () => {
    const unknown = { ...log, items: log.items.map((item, i) => (i % 4 === 3 ? UNKNOWN_ITEM : item)) };
    expect(leaveOneOut(unknown).description).toMatchObject({ unknownTargets: 4 });
    expect(favouriteGenre(unknown).description).toMatchObject({ testUsers: 4, unknownTargets: 0, repeatedTargets: 0 });
  });
  test('favourite genre: a list that names a genre twice is refused, for only one of both could be right', () => {
    expect(() => favouriteGenre(log, { genres: ['a', 'b', 'c', 'd', 'a'] })).toThrow('genres: the list has "a" twice.');
  });
});

describe('time split', () => {
  const log = interactionsFromRows([
    ...[1, 2, 5, 8, 9].map((time) => ({ user: 'ann', item: `a${time}`, time })),
    ...[1, 3].map((time) => ({ user: 'bob', item: `b${time}`, time })),
    ...[8].map((time) => ({ user: 'cy', item: `c${time}`, time })),
    ...[3, 8].map((time) => ({ user: 'di', item: `d${time}`, time })),
  ]);

  test('training ends at one moment for everybody; an event at the cut belongs to the later part', () => {
    const split = timeSplit(log, { validationFrom: 3, testFrom: 8 });
    expect([...split.trainEnd].map((end, user) => end - log.offsets[user])).toEqual([2, 1, 0, 0]);
    expect(split.validation.map(({ user, to }) => log.itemIds[log.items[to]] + ' of ' + log.users[user])).toEqual([
      'a5 of ann',
      'b3 of bob',
    ]);
    expect(split.test.map(({ to }) => log.itemIds[log.items[to]])).toEqual(['a8', 'd8']);
    expect(split.description.leftOut.users).toBe(2);
  });
  test('shares of all events choose the moments', () => {
    expect(timeSplit(log, { validationShare: 0.3, testShare: 0.4 }).description.split).toContain('first event from 8 on');
    expect(() => timeSplit(log, { validationShare: 0.6, testShare: 0.6 })).toThrow('testShare');
  });
  test('needs times', () => {
    expect(() => timeSplit(interactionsFromRows([{ user: 1, item: 1 }]))).toThrow('needs a time for every event');
  });
});
