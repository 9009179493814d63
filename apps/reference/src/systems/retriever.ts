import type { EventColumns } from '@user-llm/event-tokenizer';
import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import { mix } from '@user-llm/evaluation';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';

/** Scores of all items for a user, and what they cost. */
export interface Retrieved {
  /** Logits or log-probabilities, `[items]`. */
  readonly scores: ArrayLike<number>;
  readonly flops: number;
}

/** What names the candidates that a language model ranks anew. */
export interface Retriever {
  readonly name: string;
  /** @param events the columns of which all of the user's events are known */
  retrieve(user: number, events: EventColumns): Promise<Retrieved>;
  dispose(): Promise<void>;
}

/** The item head of the pretrained encoder: for models that read its users. */
export const encoderRetriever = (encoder: UserEncoder): Retriever => ({
  name: 'encoder',
  retrieve: async (user, events) => {
    const scores = await encoder.scoreHistory(events, user);
    const length = events.offsets[user + 1] - events.offsets[user];
    return { scores: scores.subarray(FIRST_VALUE_ID), flops: encoder.flops({ events: length, output: 'scores' }) };
  },
  dispose: () => encoder.dispose(),
});

/** Mix, the best of the counting baselines: for text prompts, which have no encoder. */
export async function mixRetriever({ log, split }: Corpus): Promise<Retriever> {
  const counting = mix();
  await counting.fit?.({ log, end: split.trainEnd });
  return {
    name: 'mix',
    retrieve: async (user, events) => {
      const from = log.offsets[user];
      const to = from + events.offsets[user + 1] - events.offsets[user];
      const answer = await counting.rank!({
        user: log.users[user],
        userIndex: user,
        history: { items: log.items.subarray(from, to), from, to },
        candidates: { ids: log.itemIds },
        exclude: new Set(),
        depth: log.itemIds.length,
      });
      if (answer === null || !('scores' in answer)) throw new Error('internal: Mix gave no scores');
      // Counts are like probabilities.
      return { scores: Float64Array.from(answer.scores, (score) => Math.log(Math.max(score, 1e-12))), flops: 0 };
    },
    dispose: () => Promise.resolve(),
  };
}
