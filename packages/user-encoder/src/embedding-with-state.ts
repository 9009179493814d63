import type { StateMaking } from './banded-state.js';
import { EncoderOptionError } from './errors.js';
import { ownerOf } from './state-owner.js';
import type { UserEmbedding } from './user-embedding.js';
import type { OpenedState, StateCodec, UserState } from './user-state.js';

/** What an update goes on from: a {@link UserEmbedding} with its state, from the encoder or out of a store. */
export interface EmbeddingWithState extends Pick<UserEmbedding, 'user'> {
  /** Default ''. */
  readonly tenant?: string | undefined;
  readonly state?: Uint8Array | undefined;
  readonly expiresAt?: number | undefined;
}

/** An embedding with the bytes of its state, where one was made. */
export const withState = (embedding: UserEmbedding, state: UserState | null, making: StateMaking | undefined): UserEmbedding =>
  state ? { ...embedding, state: making!.bytes(state, ownerOf(embedding.tenant, embedding.user)) } : embedding;

/**
 * The state that an embedding, or bytes alone, hold, and whose it is.
 *
 * @param tenant as the caller says it, if at all
 * @throws EncoderOptionError where it is another than the embedding's, and what `StateCodec.open` throws
 */
export function openLast(
  codec: StateCodec,
  last: EmbeddingWithState | Uint8Array | undefined,
  tenant: string | undefined,
): OpenedState & { readonly tenant: string; readonly expiresAt?: number | undefined } {
  if (!isEmbedding(last)) return { ...codec.open(last), tenant: tenant ?? '' };
  const { tenant: own = '' } = last;
  if (tenant !== undefined && tenant !== own)
    throw new EncoderOptionError('tenant', 'the embedding is of another; leave the option out, and its own goes on');
  // A store's embedding says whose it is, under whatever name it was put there.
  const owner = ownerOf(own, last.user);
  return { ...codec.open(last.state), owner, tenant: own, expiresAt: last.expiresAt };
}

const isEmbedding = (last: EmbeddingWithState | Uint8Array | undefined): last is EmbeddingWithState =>
  typeof last === 'object' && last !== null && 'user' in last;
