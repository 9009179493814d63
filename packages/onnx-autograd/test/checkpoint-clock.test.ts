import { expect, jest, test } from '@jest/globals';
import { checkpointClock, type CheckpointTimes } from '../src/index.js';

/** After which of so many steps of one second a checkpoint is written that takes so long. */
async function written(times: CheckpointTimes, steps: number, seconds: number, otherwise?: CheckpointTimes): Promise<number[]> {
  let now = 0;
  const clock = jest.spyOn(performance, 'now').mockImplementation(() => now);
  try {
    const done: number[] = [];
    const when = checkpointClock(times, otherwise);
    for (let step = 1; step <= steps; step++) {
      now += 1000;
      await when(step, () => {
        now += 1000 * seconds;
        done.push(step);
        return Promise.resolve();
      });
    }
    return done;
  } finally {
    clock.mockRestore();
  }
}

test('checkpoints are written by steps, by time, or by whichever comes first', async () => {
  expect(await written({ everySteps: 4 }, 10, 0)).toEqual([4, 8]);
  expect(await written({ everySeconds: 3 }, 10, 0)).toEqual([3, 6, 9]);
  expect(await written({ everySteps: 5, everySeconds: 3 }, 10, 0)).toEqual([3, 5, 8, 10]);
  expect(await written({}, 10, 0)).toEqual([]);
});

test('what a run does not say of them is said otherwise', async () => {
  const otherwise = { everySteps: 4 };
  expect(await written({}, 10, 0, otherwise)).toEqual([4, 8]);
  expect(await written({ everySeconds: 3 }, 10, 0, otherwise)).toEqual([3, 6, 9]);
});

test('on a slow disk they take a tenth of the time at most', async () => {
  expect(await written({ everySeconds: 3 }, 40, 1)).toEqual([3, 12, 21, 30, 39]);
});

test('what cannot be written ends nothing that the caller does not end', async () => {
  const when = checkpointClock({ everySteps: 1 });
  await expect(when(1, () => Promise.reject(new Error('disk full')))).rejects.toThrow('disk full');
});
