import { DoesNotFitError } from '@user-llm/cross-attention';
import { FIRST_VALUE_ID, takeLast, takeUsers } from '@user-llm/event-tokenizer';
import {
  denseRanks,
  listRank,
  measureHistoryLength,
  type HistoryLengthRow,
  type HistoryLengthSystem,
} from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { beamWidth, type LanguageSystem } from '../systems/language-system.js';
import type { RankLog } from '../run/rank-log.js';
import { sampleSize } from '../run/run-manifest.js';
import type { Workspace } from '../workspace.js';

const lengths = [50, 100, 200];

/** A test user: whose history, and where the item that is asked for stands in the log. */
interface TestUser {
  readonly user: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Recall at several history lengths, over the test users who have the longest: the encoder and a model that reads embeddings see the
 * last N events, a text prompt their titles. Everything that a user has met stays out of the ranking at every length; nothing is retrieved.
 */
export async function historyLengthCurve(
  workspace: Workspace,
  corpus: Corpus,
  encoder: UserEncoder,
  models: readonly LanguageSystem[],
  log: RankLog,
): Promise<HistoryLengthRow[]> {
  const { seed, signal, output, run } = workspace;
  const progress = output.progress('history-length', 'quality against history length');
  const long = corpus.split.test.filter(({ from, to }) => to - from >= lengths.at(-1)!);
  const users = Random.of(seed, 'history length')
    .shuffle([...long])
    .slice(0, sampleSize(run.settings));
  if (users.length === 0) {
    progress.done(`no user has ${lengths.at(-1)} events`);
    return [];
  }
  const rows = await measureHistoryLength({
    lengths,
    users,
    systems: [encoderRanks(corpus, encoder), ...models.map((model) => logged(log, modelRanks(corpus, model, signal)))],
    seed,
    signal,
    onProgress: ({ done, total }) => progress.update({ fraction: done / total, detail: `${done}/${total} rankings` }),
  });
  progress.done(`${users.length} users`);
  return rows;
}

const logged = (log: RankLog, { name, rank }: HistoryLengthSystem<TestUser>): HistoryLengthSystem<TestUser> => ({
  name,
  rank: (asked, events) => log.rank(`${name} ${asked.user} ${events}`, async () => rank(asked, events)),
});

const metBy = ({ log }: Corpus, { from, to }: TestUser): Set<number> =>
  new Set(log.items.subarray(from, to).filter((item) => item >= 0));

function filteredRank(corpus: Corpus, asked: TestUser, scores: Float32Array | Float64Array): number {
  const ranks = denseRanks(scores, corpus.log.items[asked.to], metBy(corpus, asked));
  if (ranks === undefined) throw new Error('internal: a model gave scores that are not numbers');
  return ranks.filtered;
}

const encoderRanks = (corpus: Corpus, encoder: UserEncoder): HistoryLengthSystem<TestUser> => ({
  name: 'encoder',
  rank: async (asked, events) => {
    const scores = await encoder.scoreHistory(takeLast(takeUsers(corpus.known, [asked.user]), events), 0);
    return filteredRank(corpus, asked, scores.subarray(FIRST_VALUE_ID));
  },
});

/** A user of the cut columns is at their own place, so that an embedding is made of what is left. */
function modelRanks(corpus: Corpus, model: LanguageSystem, signal: AbortSignal): HistoryLengthSystem<TestUser> {
  const cut = new Map<number, ReturnType<typeof takeLast>>();
  return {
    name: model.spec.name,
    rank: async (asked, count) => {
      let events = cut.get(count);
      if (events === undefined) cut.set(count, (events = takeLast(corpus.known, count)));
      const history = corpus.log.items.subarray(asked.to - count, asked.to).filter((item) => item >= 0);
      const titles = model.spec.reading.titles > 0 && !model.spec.reading.embedding ? count : undefined;
      try {
        if (model.scoresAll)
          return filteredRank(corpus, asked, (await model.scores(asked.user, history, { events, titles, signal })).scores);
        const exclude = metBy(corpus, asked);
        const { items } = await model.rank(asked.user, history, { by: 'model', events, titles, exclude, top: beamWidth, signal });
        return listRank([...items], corpus.log.items[asked.to], exclude, beamWidth);
      } catch (error) {
        if (DoesNotFitError.isInstance(error)) return null;
        throw error;
      }
    },
  };
}
