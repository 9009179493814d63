import { expect, jest, test } from '@jest/globals';

// A clock of its own: it goes on where somebody rests or works, and nowhere else.
let now = 0;
const rests: number[] = [];
jest.unstable_mockModule('node:timers/promises', () => ({
  setTimeout: (milliseconds: number) => {
    rests.push(milliseconds);
    now += milliseconds;
    return Promise.resolve();
  },
}));
jest.spyOn(performance, 'now').mockImplementation(() => now);
const { measureScaling } = await import('../src/scaling.js');

const takes = (milliseconds: number) => () => {
  now += milliseconds;
  return { tokens: 12 };
};

test('a rest comes before every request and is not its time', async () => {
  const [row] = await measureScaling({
    events: [50],
    users: ['ann'],
    repeats: 2,
    restMs: 1000,
    textPrompt: takes(70),
    userLlm: takes(5),
  });
  expect([row.textPrompt.p50Ms, row.userLlm.p50Ms]).toEqual([70, 5]);
  expect(rests).toEqual(Array.from({ length: 6 }, () => 1000)); // the round that is not counted, and two that are, of both sides
});
