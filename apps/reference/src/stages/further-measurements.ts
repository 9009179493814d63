import type { EmbeddingStore } from '@user-llm/embedding-store';
import type { ReportFields } from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';
import { mainSystem, mainTextSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { beamLoss } from './beam-loss.js';
import { baseKind } from './language.js';
import { openSystem } from './open-system.js';
import { scalingCurve } from './scaling.js';

/**
 * What a report says beside the systems' figures, by the main system and the text prompt side by side: latency against history length, and
 * what the beam loses. Empty where a run has not trained both.
 */
export async function furtherMeasurements(workspace: Workspace, corpus: Corpus, store: EmbeddingStore): Promise<ReportFields> {
  const { systems, run } = workspace;
  if (!systems.includes(mainSystem) || !systems.includes(mainTextSystem)) return {};
  const main = await openSystem(workspace, mainSystem, corpus, store);
  try {
    const text = await openSystem(workspace, mainTextSystem, corpus, store);
    try {
      const scaling = await scalingCurve(workspace, corpus, store, main, text);
      // Every title of a catalogue by a large model takes longer than all the rest: it is compared where titles are what is ranked.
      const compared = baseKind(workspace) === 'scratch' || run.settings.ranking === 'title';
      return { scaling, ...(compared && { beam: await beamLoss(workspace, corpus, main) }) };
    } finally {
      await text.dispose();
    }
  } finally {
    await main.dispose();
  }
}
