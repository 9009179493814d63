import { checkpointClock, type CheckpointTimes } from './checkpoint-clock.js';
import { batchReader, type BatchSource, type StepFeeds } from './batch-source.js';

interface Run<R> {
  readonly signal?: AbortSignal | undefined;
  /** Steps in all, those done before included. */
  readonly steps?: number | undefined;
  readonly checkpoint?: ({ readonly file: string } & CheckpointTimes) | undefined;
  readonly trainer: {
    readonly steps: number;
    step(feeds: StepFeeds): Promise<R>;
    saveCheckpoint(file: string): Promise<void>;
  };
}

/** Steps over a source's batches until they end, enough are done, or the signal aborts; writes checkpoints on the way. */
export async function* trainingRun<R>(
  source: BatchSource,
  { trainer, signal, steps = Infinity, checkpoint }: Run<R>,
): AsyncGenerator<R, void, undefined> {
  const batches = batchReader(source);
  const whenDue = checkpointClock(checkpoint);
  const stopIfAborted = async (): Promise<void> => {
    if (!signal?.aborted) return;
    // Before the first step there is nothing to keep, and an older file may be waiting to be resumed.
    if (checkpoint && trainer.steps > 0) await trainer.saveCheckpoint(checkpoint.file);
    signal.throwIfAborted();
  };
  const nextBatch = async (): Promise<StepFeeds | null> => {
    try {
      return await batches.next(trainer.steps + 1);
    } catch (error) {
      // A source that heeds the signal itself ends by it.
      await stopIfAborted();
      throw error;
    }
  };
  try {
    while (trainer.steps < steps) {
      await stopIfAborted();
      const feeds = await nextBatch();
      await stopIfAborted();
      if (feeds === null) break;
      const result = await trainer.step(feeds);
      if (checkpoint) await whenDue(trainer.steps, () => trainer.saveCheckpoint(checkpoint.file));
      yield result;
    }
  } finally {
    await batches.close();
  }
}
