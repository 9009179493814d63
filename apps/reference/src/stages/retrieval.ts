import { logSoftmax, mixedScore } from '@user-llm/cross-attention';
import { validatedUsers, validationMoments } from '../examples.js';
import { identityOf, type StageRecord } from '../run/run-manifest.js';
import { retrievedItems } from '../systems/language-system.js';
import { encoderRetriever, mixRetriever, type Retriever } from '../systems/retriever.js';
import type { SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, openAdapted, stageOf } from './adapted.js';
import { loadEncoder } from './pretrain.js';
import { summariesOf } from './summarise.js';

const shares = [0, 0.25, 0.5, 0.75, 1];
const usersAsked = validatedUsers;
const depth = 10;

const stage = ({ name }: SystemSpec): string => `retrieval ${name}`;

/** The retriever of a system: the pretrained encoder where it reads users, Mix where it has a text prompt alone. */
export async function openRetriever(workspace: Workspace, spec: SystemSpec): Promise<Retriever> {
  if (!spec.reading.embedding) return mixRetriever(await workspace.corpus());
  return encoderRetriever(await loadEncoder(workspace, { threads: 1 }));
}

/** The retriever's share that was chosen for a system; undefined in a run without retrieval. */
export function retrieverShareOf({ run }: Workspace, spec: SystemSpec): number | undefined {
  return run.settings.ranking === 'retrieve' ? Number(run.need(stage(spec), 'eval').result.share) : undefined;
}

/** What was chosen, for the report. */
export function retrieverShares(
  workspace: Workspace,
  systems: readonly SystemSpec[],
): { retrieverShares?: Record<string, number> } {
  if (workspace.run.settings.ranking !== 'retrieve') return {};
  return { retrieverShares: Object.fromEntries(systems.map((spec) => [spec.name, retrieverShareOf(workspace, spec)!])) };
}

/** Chooses how much of a system's order is its retriever's: the share with the best NDCG@10 on validation items. */
export async function chooseRetrieverShare(workspace: Workspace, spec: SystemSpec): Promise<StageRecord> {
  const { run, seed, signal } = workspace;
  const corpus = await workspace.corpus();
  const key = { adapted: identityOf(run.need(stageOf(spec), 'adapt')), shares, usersAsked, depth };
  return run.stage(stage(spec), key, async () => {
    const progress = workspace.output.progress('retrieval', `the retriever's share, ${spec.title}`);
    const retriever = await openRetriever(workspace, spec);
    // Nothing is stored of what users were before their validation items: every embedding is made anew.
    const users = spec.reading.embedding ? { encoder: await loadAdaptedEncoder(workspace, spec) } : undefined;
    const system = await openAdapted(workspace, spec, corpus, {
      ...(users === undefined ? {} : { users }),
      ...workspace.runtime,
      summaries: await summariesOf(workspace, spec),
      retrieval: { retriever, share: 0 },
    });
    const gains = shares.map(() => 0);
    const cases = validationMoments(corpus, seed, usersAsked);
    try {
      for (const [done, { user, end }] of cases.entries()) {
        const from = corpus.log.offsets[user];
        const history = corpus.log.items.subarray(from, from + end).filter((item) => item >= 0);
        const request = { exclude: new Set(history), top: retrievedItems, events: corpus.train, signal };
        const { items, scores } = await system.rank(user, history, request);
        const quick = logSoftmax((await retriever.retrieve(user, corpus.train)).scores);
        const target = items.indexOf(corpus.log.items[from + end]);
        shares.forEach((share, i) => {
          const mixed = scores.map((score, j) => mixedScore(score, quick[items[j]], share));
          const rank = target < 0 ? Infinity : mixed.filter((score) => score > mixed[target]).length;
          if (rank < depth) gains[i] += 1 / Math.log2(rank + 2) / cases.length;
        });
        progress.update({ fraction: (done + 1) / cases.length });
      }
    } finally {
      await system.dispose();
    }
    const share = shares[gains.indexOf(Math.max(...gains))];
    progress.done(`${share} of the order is its retriever's (${retriever.name})`);
    return { share, retriever: retriever.name, ndcgAt10: Object.fromEntries(shares.map((each, i) => [each, gains[i]])) };
  });
}
