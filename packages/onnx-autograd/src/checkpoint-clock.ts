import { AutogradError } from './errors.js';

/** When a checkpoint is written: after every so many steps, when so many seconds have gone since the last one, or both. */
export interface CheckpointTimes {
  readonly everySteps?: number | undefined;
  readonly everySeconds?: number | undefined;
}

/** Refuses times that never come, of which a run of days would leave nothing. @throws AutogradError */
export function checkTimes({ everySteps, everySeconds }: CheckpointTimes): void {
  if (everySteps !== undefined && !(everySteps === Infinity || (Number.isInteger(everySteps) && everySteps >= 1)))
    throw new AutogradError(`checkpoints every ${everySteps} steps are none; give a whole number of at least 1, or leave it out`);
  if (everySeconds !== undefined && !(everySeconds >= 0))
    throw new AutogradError(`checkpoints every ${everySeconds} seconds are none; give a number of 0 or more, or leave it out`);
}

/** Of the time, what writing them may take where they are written by time: a tenth. */
const restPerWriting = 9;

/**
 * Writes a run's checkpoint after a step where it is due; where the run says nothing of that, as `otherwise` does. By time, the next one
 * waits at least nine times as long as the last one took, whatever the disk.
 *
 * @throws AutogradError (times that never come)
 */
export function checkpointClock(times: CheckpointTimes = {}, otherwise: CheckpointTimes = {}) {
  checkTimes(times);
  const given = times.everySteps !== undefined || times.everySeconds !== undefined;
  const { everySteps = Infinity, everySeconds = Infinity } = given ? times : otherwise;
  let last = performance.now();
  let rest = 1000 * everySeconds;
  return async (step: number, write: () => Promise<void>): Promise<void> => {
    const began = performance.now();
    if (step % everySteps !== 0 && began - last < rest) return;
    await write();
    last = performance.now();
    rest = Math.max(1000 * everySeconds, restPerWriting * (last - began));
  };
}
