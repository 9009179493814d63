import type { PretrainCheckpointError } from './errors.js';
import type { StopReason, ValidationPoint } from './training-record.js';

/** After every training step. */
export interface PretrainStep {
  readonly kind: 'step';
  /** Counted from 1. */
  readonly step: number;
  /** Of the whole run; null when only a time ends it. */
  readonly steps: number | null;
  /** Epochs done, with a fraction. */
  readonly epoch: number;
  /** What is minimised, and its parts without their weights: `nextEvent` has one per field. */
  readonly loss: number;
  readonly losses: Readonly<Record<string, number>>;
  /** As the schedule has it. */
  readonly learningRate: number;
  /** Trained positions per second of late. */
  readonly eventsPerSecond: number;
  /** An estimate; null before there is one. */
  readonly secondsLeft: number | null;
  /** Why the last checkpoint that was due could not be written; the run goes on. */
  readonly unsaved?: PretrainCheckpointError;
}

/** After a validation. */
export interface PretrainValidation extends ValidationPoint {
  readonly kind: 'validation';
  /** Whether these are the best weights so far. */
  readonly best: boolean;
}

export interface PretrainEnd {
  readonly kind: 'end';
  readonly step: number;
  readonly seconds: number;
  readonly stopped: StopReason;
  /** Why the last checkpoint could not be written, a full disk perhaps. The run gives its result all the same. */
  readonly unsaved?: PretrainCheckpointError;
}

export type PretrainProgress = PretrainStep | PretrainValidation | PretrainEnd;

/**
 * A run that is under way. `result` is all that is needed; `for await` over the run watches it from the first step that had not
 * been done when the loop began, and leaving the loop does not stop the run (the signal does). Both throw what ended it.
 */
export class PretrainRun<Result> implements AsyncIterable<PretrainProgress> {
  readonly result: Promise<Result>;
  private readonly watchers = new Set<Watcher>();

  constructor(work: (report: (progress: PretrainProgress) => void) => Promise<Result>) {
    // The work starts on the next turn, so that a watcher added at once misses nothing.
    this.result = new Promise<void>((resolve) => setImmediate(resolve)).then(() => work((progress) => this.tell({ progress })));
    this.result.then(
      () => this.tell({ done: true }),
      (error: unknown) => this.tell({ error }),
    );
  }

  private tell(message: Message): void {
    for (const watcher of this.watchers) watcher.push(message);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<PretrainProgress, void, undefined> {
    const watcher = new Watcher();
    this.watchers.add(watcher);
    // For a run that has ended already.
    this.result.then(
      () => watcher.push({ done: true }),
      (error: unknown) => watcher.push({ error }),
    );
    try {
      while (true) {
        const message = await watcher.next();
        if ('error' in message) throw message.error;
        if ('done' in message) return;
        yield message.progress;
      }
    } finally {
      this.watchers.delete(watcher);
    }
  }
}

type Message = { progress: PretrainProgress } | { done: true } | { error: unknown };

class Watcher {
  private readonly queue: Message[] = [];
  private wake: (() => void) | undefined;

  push(message: Message): void {
    this.queue.push(message);
    this.wake?.();
  }

  async next(): Promise<Message> {
    while (this.queue.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.queue.shift()!;
  }
}
