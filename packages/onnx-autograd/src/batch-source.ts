import type { Feeds } from './session.js';

/** One batch, or several whose gradients are averaged into one step. */
export type StepFeeds = Feeds | readonly Feeds[];

/** Batches in order, or a function from the step (counted from 1) to its batch, which a resumed run can enter anywhere. */
export type BatchSource =
  Iterable<StepFeeds> | AsyncIterable<StepFeeds> | ((step: number) => StepFeeds | Promise<StepFeeds> | null);

/** Reads a source step by step; null at its end. */
export function batchReader(source: BatchSource): { next(step: number): Promise<StepFeeds | null>; close(): Promise<void> } {
  if (typeof source === 'function') return { next: async (step) => source(step), close: async () => undefined };
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  return {
    async next() {
      const { done, value } = await iterator.next();
      return done ? null : value;
    },
    async close() {
      await iterator.return?.();
    },
  };
}
