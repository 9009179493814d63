import type { EmbeddingStore } from '@user-llm/embedding-store';
import type { Corpus } from '../corpus.js';
import type { SystemSpec } from '../system-specs.js';
import type { LanguageSystem } from '../systems/language-system.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, openAdapted } from './adapted.js';
import { openRetriever, retrieverShareOf } from './retrieval.js';
import { summariesOf } from './summarise.js';

/** Opens a trained system with all that it answers from. The caller disposes it. */
export async function openSystem(
  workspace: Workspace,
  spec: SystemSpec,
  corpus: Corpus,
  store: EmbeddingStore,
): Promise<LanguageSystem> {
  const share = retrieverShareOf(workspace, spec);
  return openAdapted(workspace, spec, corpus, {
    ...(spec.reading.embedding ? { users: { store, encoder: await loadAdaptedEncoder(workspace, spec) } } : {}),
    ...(share === undefined ? {} : { retrieval: { retriever: await openRetriever(workspace, spec), share } }),
    ...workspace.runtime,
    summaries: await summariesOf(workspace, spec),
  });
}
