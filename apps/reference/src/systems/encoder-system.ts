import type { System } from '@user-llm/evaluation';
import { FIRST_VALUE_ID } from '@user-llm/event-tokenizer';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';

/** The pretrained encoder's own item head, without any language model. */
export function encoderSystem(encoder: UserEncoder, corpus: Corpus): System {
  const steps = encoder.training?.steps ?? 0;
  return {
    name: 'encoder',
    notes: [`pretrained for ${steps} steps; a request encodes the history`],
    rank: async ({ userIndex, history }) => {
      const scores = await encoder.scoreHistory(corpus.known, userIndex);
      const events = history.to - history.from;
      return { scores: scores.subarray(FIRST_VALUE_ID), cost: { tokens: 0, flops: encoder.flops({ events, output: 'scores' }) } };
    },
  };
}
