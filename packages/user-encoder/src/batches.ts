import { Random } from '@user-llm/onnx-autograd';
import type { Window } from './event-feeds.js';
import type { Span } from './span.js';

/** A batch of windows and the length that they are padded to. */
export interface WindowBatch {
  readonly windows: Window[];
  readonly length: number;
}

/** Lengths that windows are padded to: few, since every one is a compiled graph of its own. */
export const lengthBuckets = (context: number): number[] => [
  ...new Set([Math.ceil(context / 4), Math.ceil(context / 2), context]),
];

/** The smallest bucket that holds a window. */
export const bucketOf = (length: number, buckets: readonly number[]): number =>
  buckets.find((bucket) => bucket >= length) ?? buckets[buckets.length - 1];

/**
 * Training batches as a function of the seed and the step alone. In an epoch, a user whose events fit the context gives one window,
 * a longer one several at random places, so that every event is seen about once. Windows of like length share a batch.
 */
export class BatchPlan {
  readonly stepsPerEpoch: number;
  /** Events that are predicted in one epoch. */
  readonly targetsPerEpoch: number;
  private readonly buckets: { length: number; users: number[] }[];
  private epoch = -1;
  private batches: WindowBatch[] = [];

  /** @param spans events of each user that may be trained on */
  constructor(
    private readonly spans: readonly Span[],
    private readonly context: number,
    private readonly batch: number,
    private readonly seed: number,
  ) {
    const lengths = lengthBuckets(context);
    const byLength = new Map<number, number[]>(lengths.map((length) => [length, []]));
    let targets = 0;
    spans.forEach(({ start, end }, user) => {
      const inputs = end - start - 1;
      if (inputs < 1) return;
      targets += inputs;
      const list = byLength.get(bucketOf(inputs, lengths))!;
      for (let i = 0; i < Math.ceil(inputs / context); i++) list.push(user);
    });
    // A bucket without a full batch joins the next one.
    let waiting: number[] = [];
    this.buckets = [];
    for (const length of lengths) {
      const users = [...waiting, ...byLength.get(length)!];
      waiting = [];
      if (users.length >= batch || (length === context && users.length > 0)) this.buckets.push({ length, users });
      else waiting = users;
    }
    this.targetsPerEpoch = targets;
    this.stepsPerEpoch = this.buckets.reduce((sum, { users }) => sum + Math.ceil(users.length / batch), 0);
  }

  /** The batch of a step counted from 1. A window of n + 1 events has n inputs and n targets. */
  at(step: number): WindowBatch {
    const epoch = Math.floor((step - 1) / this.stepsPerEpoch);
    if (epoch !== this.epoch) {
      this.batches = this.draw(epoch);
      this.epoch = epoch;
    }
    return this.batches[(step - 1) % this.stepsPerEpoch];
  }

  private draw(epoch: number): WindowBatch[] {
    const random = Random.of(this.seed, 'epoch', epoch);
    const batches: WindowBatch[] = [];
    for (const { length, users } of this.buckets) {
      const order = random.shuffle(users.slice());
      for (let i = 0; i < order.length; i += this.batch) {
        const windows: Window[] = order.slice(i, i + this.batch).map((user) => this.window(this.spans[user], random));
        while (windows.length < this.batch) windows.push(null);
        batches.push({ windows, length });
      }
    }
    return random.shuffle(batches);
  }

  /** A random place; one near an edge is moved to it, so that first and last events are seen as often as the others. */
  private window({ start, end }: Span, random: Random): Span {
    const free = end - start - 1 - this.context;
    if (free <= 0) return { start, end };
    const margin = this.context / 2;
    const place = Math.floor(random.next() * (free + 2 * margin) - margin);
    const first = start + Math.min(free, Math.max(0, place));
    return { start: first, end: first + this.context + 1 };
  }
}
