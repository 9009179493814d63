import type { Weights } from '@user-llm/onnx-autograd';
import type { TrainableEncoder } from '../src/adaptation/trainable-encoder.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

/** The films of each user, as numbers: two or more. */
export type ToyEvents = ReadonlyMap<string, readonly number[]>;

/** What a user had seen after so many films: two or more. */
export interface ToyMoment {
  readonly user: string;
  readonly end: number;
}

export type ToyEmbedding = Awaited<ReturnType<ToyUserEncoder['encodeUser']>>;

const specialIds = 4;

/**
 * A toy with the outside of `UserEncoder` of `@user-llm/user-encoder`. It cannot be trained itself, and what training gives back cannot
 * either: that takes the form that `trainable` gives.
 */
export class ToyUserEncoder {
  private constructor(private readonly toy: ToyEncoder) {}

  static create(seed: number): ToyUserEncoder {
    return new ToyUserEncoder(ToyEncoder.create(seed));
  }

  get hash(): string {
    return this.toy.manifest.hash;
  }

  get manifest(): ToyEncoder['manifest'] {
    return this.toy.manifest;
  }

  get weights(): Weights {
    return this.toy.weights;
  }

  withWeights(weights: Weights): ToyUserEncoder {
    return new ToyUserEncoder(this.toy.withWeights(weights));
  }

  trainable(events: ToyEvents): TrainableEncoder<ToyMoment> & { withWeights(weights: Weights): ToyUserEncoder } {
    const { toy } = this;
    return {
      manifest: toy.manifest,
      weights: toy.weights,
      feeds: (moments) => toy.feeds(moments.map((moment) => lastTwo(events, moment))),
      build: (graph) => toy.build(graph),
      withWeights: (weights) => this.withWeights(weights),
    };
  }

  async encodeUser(events: ToyEvents, user: string) {
    const end = events.get(user)!.length;
    return {
      ...{ tenant: '', user, tokenizer: 'toy-tokenizer', sequence: end, watermark: { time: 1_700_000_000, count: end } },
      writtenAt: 1_700_000_000,
      ...this.toy.encode(lastTwo(events, { user, end })),
    };
  }

  async scoreHistory(events: ToyEvents, user: string): Promise<Float32Array> {
    return (await this.scoreMoments(events, [{ user, end: events.get(user)!.length }]))[0];
  }

  /** The film after the last one has 2, the others nothing, `[special ids + films]`. */
  async scoreMoments(
    events: ToyEvents,
    moments: readonly ToyMoment[],
    _options: { readonly raw?: boolean } = {},
  ): Promise<Float32Array[]> {
    return moments.map((moment) => {
      const films = this.toy.weights.get('events.weight')!.shape[0];
      const scores = new Float32Array(specialIds + films).fill(-Infinity, 0, specialIds);
      scores[specialIds + ((lastTwo(events, moment)[1] + 1) % films)] = 2;
      return scores;
    });
  }
}

function lastTwo(events: ToyEvents, { user, end }: ToyMoment): ToyHistory {
  const films = events.get(user)!;
  return [films[end - 2], films[end - 1]];
}
