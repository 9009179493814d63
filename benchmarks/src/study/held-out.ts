import type { InteractionLog, RankRequest, TrainingData } from '@user-llm/evaluation';
import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import type { Corpus } from '@user-llm/reference';
import type { UserEncoder } from '@user-llm/user-encoder';
import { rankOf, type CaseRanks } from './ranks.js';

/**
 * Ranks of every test user's last event by an encoder's item head; what the user has met in truth is left out.
 *
 * @param shown the histories that the encoder reads: the users of the corpus in their order
 */
export async function testRanks(encoder: UserEncoder, corpus: Corpus, shown: EventColumns = corpus.known): Promise<CaseRanks> {
  const { items, users } = corpus.log;
  const caseOf = new Map(corpus.split.test.map((one) => [one.user, one]));
  const ranks: number[] = [];
  let user = 0;
  for await (const found of encoder.nextItemScores(shown)) {
    const one = caseOf.get(user);
    if (found.user !== users[user]) throw new Error('internal: users in another order than the log has them');
    if (one) ranks.push(rankOf(found.scores.subarray(FIRST_VALUE_ID), items[one.to], items.subarray(one.from, one.to)));
    user++;
  }
  return ranks;
}

/** A counting baseline. */
export interface Baseline {
  readonly name: string;
  fit(train: TrainingData): void;
  rank(request: RankRequest): { scores: Float64Array };
}

/** What a baseline sees of a log: what it counts, and what it is shown of every user. */
export interface Sight {
  readonly train: TrainingData;
  readonly shown: InteractionLog;
}

/** Ranks of every test user's last event by a counting baseline, which sees the log as an encoder does. */
export function baselineRanks(
  system: Baseline,
  { log, split }: Pick<Corpus, 'log' | 'split'>,
  { train, shown }: Sight,
): CaseRanks {
  system.fit(train);
  return split.test.map((one) => {
    const history = log.items.subarray(one.from, one.to);
    const [from, to] = shown === log ? [one.from, one.to] : [shown.offsets[one.user], shown.offsets[one.user + 1]];
    const { scores } = system.rank({
      user: log.users[one.user],
      userIndex: one.user,
      history: { items: shown.items.subarray(from, to), from, to },
      candidates: { ids: log.itemIds },
      exclude: new Set(),
      depth: log.itemIds.length,
    });
    return rankOf(scores, log.items[one.to], history);
  });
}

/** The clean log: all but the last two events are counted, all but the last are shown. */
export const cleanSight = ({ log, split }: Pick<Corpus, 'log' | 'split'>): Sight => ({
  train: { log, end: split.trainEnd },
  shown: log,
});
