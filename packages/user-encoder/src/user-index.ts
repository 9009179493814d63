import { TokenizerMismatchError, UnknownUserError, userIndex } from '@user-llm/event-tokenizer/web';
import type { EventColumns } from '@user-llm/event-tokenizer';

/** @throws TokenizerMismatchError unless this tokenizer made the events */
export function checkTokenizer(events: EventColumns, tokenizerHash: string): void {
  if (events.tokenizer !== tokenizerHash) throw new TokenizerMismatchError(tokenizerHash, events.tokenizer);
}

/**
 * The index of a user (by name, or by index) in the columns.
 *
 * @throws TokenizerMismatchError, UnknownUserError
 */
export function indexOfUser(events: EventColumns, user: string | number, tokenizerHash: string): number {
  checkTokenizer(events, tokenizerHash);
  const index = typeof user === 'number' ? user : userIndex(events).get(user);
  if (index === undefined || !Number.isInteger(index) || index < 0 || index >= events.users.length)
    throw new UnknownUserError(user, events.users.length);
  return index;
}
