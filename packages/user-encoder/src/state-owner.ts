import { createHash } from 'node:crypto';
import { TokenizerMismatchError, type EventColumns } from '@user-llm/event-tokenizer';
import { EncoderOptionError, StateMismatchError } from './errors.js';

/** Whose a state is, as it stands in its bytes: a hash, so that a state on its own names nobody. */
export const ownerBytes = 16;

/** The hexadecimal owner of a tenant's user. Each stands behind its length, so that no two pairs are written alike. */
export function ownerOf(tenant: string, user: string): string {
  const hash = createHash('sha256');
  for (const name of [tenant, user]) {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(name));
    hash.update(length).update(name);
  }
  return hash.digest('hex').slice(0, 2 * ownerBytes);
}

/**
 * The owner of new events, which are of one user: the one whose state they are for.
 *
 * @param owner null where a state does not say whose it is
 * @throws TokenizerMismatchError, EncoderOptionError for several users, StateMismatchError for another user or tenant
 */
export function checkOwner(events: EventColumns, tokenizer: string, owner: string | null, tenant: string): string {
  if (events.tokenizer !== tokenizer) throw new TokenizerMismatchError(tokenizer, events.tokenizer);
  if (events.users.length !== 1)
    throw new EncoderOptionError(
      'newEvents',
      `a state is of one user, and these events are of ${events.users.length}; take one with takeUsers`,
    );
  const found = ownerOf(tenant, events.users[0]);
  if (owner !== null && found !== owner) throw new StateMismatchError('user', found, owner);
  return found;
}
