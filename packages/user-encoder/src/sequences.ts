import type { EventColumns } from '@user-llm/event-tokenizer';
import type { Random } from '@user-llm/onnx-autograd';
import type { Span } from './span.js';
import { EncoderOptionError } from './errors.js';
import { userOf } from './event-owner.js';
import { checkNames } from './option-names.js';

/**
 * Changes to the histories that training reads, for logs that are noisy or few (Xie et al. 2022, section 3.2; Hou et al. 2022): each
 * with a probability from 0 (the default) to below 1, drawn anew at every step, the same on every run of a seed. An event keeps its
 * own fields whatever stands around it, its time gap too.
 */
export interface Augmentation {
  /** Per window: it is cut to a random run of half of its events or more. */
  readonly crop?: number;
  /** Per event: it is left out. Two always stay. */
  readonly drop?: number;
  /** Per event: it changes places with the next one. */
  readonly swap?: number;
  /** Per event: a random event of the log is read in its place. What is to be predicted stays true. */
  readonly corrupt?: number;
  /** Per event: its item is read as an unknown one, its other fields as they are, so that an item never seen means something. */
  readonly unknown?: number;
}

export function checkAugmentation(augmentation: Augmentation): void {
  checkNames(augmentation, ['crop', 'drop', 'swap', 'corrupt', 'unknown'], 'augmentation');
  for (const [name, value] of Object.entries(augmentation)) {
    if (value !== undefined && !(value >= 0 && value < 1))
      throw new EncoderOptionError(`augmentation.${name}`, `${value} is outside [0, 1)`);
  }
}

/** A row of a training batch: n events of one user. */
export interface Sequence {
  /** [n] index in the columns of every event as it happened: what is to be predicted. */
  readonly events: Int32Array;
  /** [n] index of the event that is read at its place. */
  readonly read: Int32Array;
  /** [n] 1 where the item is read as an unknown one. */
  readonly unknown: Uint8Array;
  /** Whether `events[0]` is the first event that the user ever had. */
  readonly first: boolean;
}

/** Events `start` to `end` of a sequence. */
export const part = ({ events, read, unknown, first }: Sequence, start: number, end: number): Sequence => ({
  events: events.subarray(start, end),
  read: read.subarray(start, end),
  unknown: unknown.subarray(start, end),
  first: first && start === 0,
});

/** Makes the sequence of a window, changed as the options say. */
export class Sequences {
  /** @param spans events of each user that are trained on: those that corruption draws from */
  constructor(
    private readonly events: EventColumns,
    private readonly spans: readonly Span[],
    private readonly augmentation: Augmentation,
  ) {}

  of({ start, end }: Span, random: Random): Sequence {
    const { crop = 0, drop = 0, swap = 0, corrupt = 0, unknown = 0 } = this.augmentation;
    let list = Array.from({ length: end - start }, (_, i) => start + i);
    if (crop > 0 && random.next() < crop) {
      const least = Math.max(2, Math.ceil(list.length / 2));
      const size = least + random.integer(list.length - least + 1);
      const from = random.integer(list.length - size + 1);
      list = list.slice(from, from + size);
    }
    if (drop > 0) {
      const kept = list.filter(() => random.next() >= drop);
      list = kept.length >= 2 ? kept : list.slice(-2);
    }
    if (swap > 0)
      for (let i = 0; i + 1 < list.length; i++)
        if (random.next() < swap) {
          [list[i], list[i + 1]] = [list[i + 1], list[i]];
          i++;
        }
    const happened = Int32Array.from(list);
    return {
      events: happened,
      read: corrupt > 0 ? happened.map((event) => (random.next() < corrupt ? this.anyEvent(random) : event)) : happened,
      unknown: Uint8Array.from(happened, () => (unknown > 0 && random.next() < unknown ? 1 : 0)),
      first: startsUser(this.events.offsets, happened[0]),
    };
  }

  /** Any event of the training log, each equally likely. */
  private anyEvent(random: Random): number {
    // What is held out lies at the ends of users: a draw that hits it is drawn again, which is rare.
    for (;;) {
      const event = random.integer(this.events.offsets[this.events.users.length]);
      const { end } = this.spans[userOf(this.events.offsets, event)];
      if (event < end) return event;
    }
  }
}

const startsUser = (offsets: Int32Array, event: number): boolean => offsets[userOf(offsets, event)] === event;
