import type { LiveEvent } from './live-log.js';

/** What is known of a user before new events come. */
export interface KnownHistory {
  /** Time of the last event; -Infinity where there is none. */
  readonly last: number;
  /** Whether there is an event of that time and item. */
  has(time: number, item: string): boolean;
}

export interface NewEvents {
  /** To be taken, oldest first. */
  readonly taken: LiveEvent[];
  /** Those of a time and an item that the user has: a file may be given again when it has grown. */
  readonly known: number;
  /** Those older than their user's last event: an encoder reads events in the order of time, and cannot go back. */
  readonly late: number;
}

/** Tells new events from those that are known or come too late. */
export function newEventsOf(events: readonly LiveEvent[], historyOf: (user: string) => KnownHistory): NewEvents {
  const taken: LiveEvent[] = [];
  let [known, late] = [0, 0];
  const latest = new Map<string, { time: number; items: Set<string> }>();
  for (const event of events.toSorted((a, b) => a.time - b.time)) {
    const { user, item, time } = event;
    const history = historyOf(user);
    const own = latest.get(user);
    if (history.has(time, item) || (own?.time === time && own.items.has(item))) known++;
    else if (time < history.last) late++;
    else {
      taken.push(event);
      if (own?.time === time) own.items.add(item);
      else latest.set(user, { time, items: new Set([item]) });
    }
  }
  return { taken, known, late };
}
