import { rm } from 'node:fs/promises';
import type { EmbeddingStore } from '@user-llm/embedding-store';
import type { HistoryLengthRow, ReportFields } from '@user-llm/evaluation';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { mainSystem, mainTextSystem, type SystemSpec } from '../system-specs.js';
import type { LanguageSystem } from '../systems/language-system.js';
import { RankLog } from '../run/rank-log.js';
import { sampleSize } from '../run/run-manifest.js';
import type { Workspace } from '../workspace.js';
import { misfitOf, stageOf } from './adapted.js';
import { beamLoss } from './beam-loss.js';
import { historyLengthCurve } from './history-length.js';
import { baseKind } from './language.js';
import { openSystem } from './open-system.js';
import { pretrained } from './pretrain.js';
import { measurePromptCache } from './prompt-cache.js';
import { scalingCurve } from './scaling.js';

/** What the measurements are made with. */
export interface Measured {
  readonly corpus: Corpus;
  readonly store: EmbeddingStore;
  readonly encoder: UserEncoder;
}

/**
 * What a report says beside the systems' figures, by the main system and the text prompt: quality against history length and, of both side
 * by side, latency against history length; what a cache of prompts costs; what the beam loses.
 */
export async function furtherMeasurements(workspace: Workspace, measured: Measured): Promise<ReportFields> {
  const { run, systems } = workspace;
  const { corpus, store, encoder } = measured;
  const open = async (spec: SystemSpec): Promise<LanguageSystem | undefined> =>
    systems.includes(spec) && misfitOf(workspace, spec) === undefined ? openSystem(workspace, spec, corpus, store) : undefined;
  const main = await open(mainSystem);
  try {
    const text = await open(mainTextSystem);
    try {
      const models = [main, text].filter((model) => model !== undefined);
      const key = [
        pretrained(workspace).key,
        sampleSize(run.settings),
        ...models.map(({ spec }) => run.need(stageOf(spec), 'adapt').finishedAt),
      ];
      const file = run.path('outcomes', 'history-length.part.json');
      const curve = async (): Promise<{ rows: HistoryLengthRow[] }> => {
        // As many users as are asked add to those before.
        const log = await RankLog.open(file, JSON.stringify(key.toSpliced(1, 1)));
        try {
          return { rows: await historyLengthCurve(workspace, corpus, encoder, models, log) };
        } finally {
          await log.write();
        }
      };
      const { result } = await run.stage('history length', key, curve, { after: () => rm(file, { force: true }) });
      const historyLength = result.rows as HistoryLengthRow[];
      const promptCache = text && (await measurePromptCache(workspace, corpus, text));
      if (main === undefined || text === undefined) return { historyLength, ...(promptCache && { promptCache }) };
      const scaling = await scalingCurve(workspace, corpus, main, text);
      // Every title of a catalogue by a large model takes longer than all the rest: it is compared where titles are what is ranked.
      const compared = baseKind(workspace) === 'scratch' || run.settings.ranking === 'title';
      const beam = compared ? await beamLoss(workspace, corpus, main) : undefined;
      return { historyLength, ...(promptCache && { promptCache }), scaling, ...(beam && { beam }) };
    } finally {
      await text?.dispose();
    }
  } finally {
    await main?.dispose();
  }
}
