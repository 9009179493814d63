import type { System } from '@user-llm/evaluation';
import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { counted } from '../run/console-output.js';

/**
 * The pretrained encoder's own item head, without any language model.
 *
 * @param events what it sees of every user: all but the test items, or for a validation task `corpus.train`
 */
export function encoderSystem(encoder: UserEncoder, corpus: Corpus, events: EventColumns = corpus.known): System {
  const steps = encoder.training?.steps ?? 0;
  return {
    name: 'encoder',
    notes: [`pretrained for ${counted(steps, 'step')}; a request encodes the history`],
    rank: async ({ userIndex, history }) => {
      const scores = await encoder.scoreHistory(events, userIndex);
      const flops = encoder.flops({ events: history.to - history.from, output: 'scores' });
      return { scores: scores.subarray(FIRST_VALUE_ID), cost: { tokens: 0, flops } };
    },
  };
}
