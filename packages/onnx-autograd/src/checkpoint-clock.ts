/** When a checkpoint is written: after every so many steps, when so many seconds have gone since the last one, or both. */
export interface CheckpointTimes {
  readonly everySteps?: number | undefined;
  readonly everySeconds?: number | undefined;
}

/** Of the time, what writing them may take where they are written by time: a tenth. */
const restPerWriting = 9;

/**
 * Writes a run's checkpoint after a step where it is due; where the run says nothing of that, as `otherwise` does. By time, the next one
 * waits at least nine times as long as the last one took, whatever the disk.
 */
export function checkpointClock(times: CheckpointTimes = {}, otherwise: CheckpointTimes = {}) {
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
