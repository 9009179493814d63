import type { EventColumns } from '@user-llm/event-tokenizer';
import type { EncoderConfig } from './config.js';

/** A user as numbers: what a store keeps and a language model reads. */
export interface UserEmbedding {
  /** The customer the user belongs to, where one store serves several; the empty string otherwise. */
  readonly tenant: string;
  readonly user: string;
  /** Hash of the encoder that made it. Nothing else can read it. */
  readonly encoder: string;
  /** Hash of the tokenizer that made the events. */
  readonly tokenizer: string;
  /** Grows with the user's events: their count. */
  readonly sequence: number;
  /** The last event in it: its time (Unix seconds; NaN when unknown or there is none) and how many there are. */
  readonly watermark: { readonly time: number; readonly count: number };
  /** Unix seconds. */
  readonly writtenAt: number;
  readonly dtype: 'float32';
  /** [K, D]; all K tokens are valid, also those of a user without events. */
  readonly shape: [number, number];
  readonly data: Float32Array;
  /** What `UserEncoder.update` goes on from, where it was asked for. */
  readonly state?: Uint8Array;
  /** Unix seconds from which on a store gives it no more, where it was put with such a time: an update has it too. */
  readonly expiresAt?: number;
}

/** How far a user's events go: what an embedding says of them. */
export interface Reading {
  readonly user: string;
  readonly count: number;
  /** Of the last event, Unix seconds; NaN where unknown or there is none. */
  readonly time: number;
}

/** Of all events of one user of the columns, by its index. */
export function readingOf(events: EventColumns, user: number): Reading {
  const end = events.offsets[user + 1];
  const count = end - events.offsets[user];
  return { user: events.users[user], count, time: count === 0 ? NaN : events.times[end - 1] };
}

/** What stands in an embedding beside the user's own. */
export interface EmbeddingOptions {
  /** Whose users these are, where one store serves several. Default: the empty string. */
  readonly tenant?: string;
  /** Stands in the embeddings as `writtenAt`, Unix seconds. Default: now. */
  readonly writtenAt?: number;
}

export const embeddingOptions: readonly (keyof EmbeddingOptions)[] = ['tenant', 'writtenAt'];

/** The embedding of a reading: `data` are the user tokens [K, D]. */
export const embeddingOf = (
  { hash, tokenizerHash, config }: { readonly hash: string; readonly tokenizerHash: string; readonly config: EncoderConfig },
  { user, count, time }: Reading,
  data: Float32Array,
  { tenant = '', writtenAt = Date.now() / 1000 }: EmbeddingOptions,
): UserEmbedding => ({
  tenant,
  user,
  encoder: hash,
  tokenizer: tokenizerHash,
  sequence: count,
  watermark: { time, count },
  writtenAt,
  dtype: 'float32',
  shape: [config.userTokens, config.width],
  data,
});
