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
}
