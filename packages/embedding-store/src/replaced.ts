import type { Write, WriteOutcome } from './driver.js';
import { recordSequence } from './record.js';

/** The stored embedding that a put replaces, by its sequence; `'nothing'` where none is there that can be served. */
export type Replaced = number | 'nothing';

/** Throws unless the option, where it is given, names what is replaced. */
export function checkReplaced(options: { replaces?: Replaced }): void {
  const { replaces } = options;
  if (replaces === 'nothing' || (Number.isSafeInteger(replaces) && (replaces as number) >= 0)) return;
  // Given as undefined, it is most likely the sequence of an embedding that was not found; a put without a condition would lose one.
  if (replaces === undefined && !Object.hasOwn(options, 'replaces')) return;
  throw new TypeError(
    `The option "replaces" is ${String(replaces)}. Give the sequence of the embedding that you began from, or 'nothing' where get found none; leave it out to put whatever is stored.`,
  );
}

/** Why a put is refused over the record that is there; undefined where it may be written. */
export function refusal(
  { sequence, replaces, now }: Write & { kind: 'put' },
  record: Buffer | undefined,
): WriteOutcome | undefined {
  const stored = record && recordSequence(record, now);
  const storedSequence = stored ?? 'nothing';
  if (replaces !== undefined && replaces !== storedSequence) return { kind: 'changed', storedSequence };
  if (stored !== undefined && stored > sequence) return { kind: 'older', storedSequence: stored };
  return undefined;
}
