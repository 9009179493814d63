import type { InteractionLog } from '@user-llm/evaluation';
import { FIRST_VALUE_ID, takeUsers, type EventColumns } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from '@user-llm/reference';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Baseline } from './held-out.js';
import { rankOf, type CaseRanks } from './ranks.js';

const momentsAtOnce = 32;

/** Users that nothing was trained on, and the events of the others. */
export interface NewUsers {
  /** Indices in the corpus of those who have an event after the longest history that is asked about. */
  readonly users: readonly number[];
  readonly others: EventColumns;
  /** [U] in the log: how far a baseline may count; new users' events not at all, of the others all but the last two. */
  readonly end: Int32Array;
}

/** Holds a share of the users out. */
export function newUsers({ known, log, split }: Corpus, share: number, longest: number, seed: number): NewUsers {
  const order = Random.of(seed, 'new users').shuffle(log.users.map((_, user) => user));
  const fresh = new Set(order.slice(0, Math.ceil(share * order.length)));
  const kept = order.filter((user) => !fresh.has(user)).sort((a, b) => a - b);
  return {
    users: [...fresh].filter((user) => known.offsets[user + 1] - known.offsets[user] > longest).sort((a, b) => a - b),
    others: takeUsers(known, kept),
    end: split.trainEnd.map((end, user) => (fresh.has(user) ? log.offsets[user] : end)),
  };
}

const historyOf = ({ items, offsets }: InteractionLog, user: number, events: number): Int32Array =>
  items.subarray(offsets[user], offsets[user] + events);
const targetOf = ({ items, offsets }: InteractionLog, user: number, events: number): number => items[offsets[user] + events];

/** Ranks of each new user's event that comes after the first so many. */
export async function encoderRanks(
  encoder: UserEncoder,
  { known, log }: Corpus,
  users: readonly number[],
  events: number,
): Promise<CaseRanks> {
  const ranks: number[] = [];
  for (let from = 0; from < users.length; from += momentsAtOnce) {
    const some = users.slice(from, from + momentsAtOnce);
    const scores = await encoder.scoreMoments(
      known,
      some.map((user) => ({ user, end: events })),
    );
    some.forEach((user, i) =>
      ranks.push(rankOf(scores[i].subarray(FIRST_VALUE_ID), targetOf(log, user, events), historyOf(log, user, events))),
    );
  }
  return ranks;
}

/** The same of a counting baseline, which has counted the other users. */
export function countingRanks(
  system: Baseline,
  { log }: Corpus,
  { users, end }: Pick<NewUsers, 'users' | 'end'>,
  events: number,
): CaseRanks {
  system.fit({ log, end });
  return users.map((user) => {
    const [from, to] = [log.offsets[user], log.offsets[user] + events];
    const history = { items: historyOf(log, user, events), from, to };
    const asked = { user: log.users[user], userIndex: user, history, candidates: { ids: log.itemIds } };
    const { scores } = system.rank({ ...asked, exclude: new Set(), depth: log.itemIds.length });
    return rankOf(scores, targetOf(log, user, events), history.items);
  });
}

/** What the other users did at the same place of their histories, popularity among equals: hard to beat where there is no history. */
export function popularAtPlace(events: number): Baseline {
  let scores = new Float64Array();
  return {
    name: 'popular at this place',
    fit({ log, end }) {
      scores = new Float64Array(log.itemIds.length);
      for (let user = 0; user < log.users.length; user++)
        for (let i = log.offsets[user]; i < end[user]; i++)
          if (log.items[i] >= 0) scores[log.items[i]] += i === log.offsets[user] + events ? 1 : 1e-7;
    },
    rank: () => ({ scores }),
  };
}
