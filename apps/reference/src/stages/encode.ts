import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { UserEncoder, type UserEmbedding } from '@user-llm/user-encoder';
import type { StageRecord } from '../run/run-folder.js';
import { userSystems } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { stageOf, systemFolder } from './adapt.js';

export const openUsers = (workspace: Workspace): Promise<EmbeddingStore> => openStore(`lmdb:${workspace.run.path('users')}`);

/** The encoder as it came out of adapting a system. */
export async function loadAdaptedEncoder(workspace: Workspace, name: string): Promise<UserEncoder> {
  const { tokenizer } = await workspace.corpus();
  return UserEncoder.load(`${systemFolder(workspace, name)}-encoder`, { tokenizer });
}

/** Writes every user's embedding, without the held-out event, by each adapted encoder. */
export async function encodeUsers(workspace: Workspace): Promise<StageRecord> {
  const { run, signal } = workspace;
  const corpus = await workspace.corpus();
  const keys = userSystems.map((spec) => run.need(stageOf(spec), 'adapt').key);
  return run.stage('encode', keys, async () => {
    const progress = workspace.output.progress('encode', 'writing the users into the store');
    const store = await openUsers(workspace);
    const hashes: Record<string, string> = {};
    const total = userSystems.length * corpus.known.users.length;
    let done = 0;
    const began = performance.now();
    try {
      for (const { name } of userSystems) {
        const encoder = await loadAdaptedEncoder(workspace, name);
        hashes[name] = encoder.hash;
        await store.putMany(
          counted(encoder.encode(corpus.known, { signal }), () => {
            done++;
            const rate = done / ((performance.now() - began) / 1000);
            progress.update({
              fraction: done / total,
              secondsLeft: (total - done) / rate,
              detail: `${Math.round(rate)} users/s`,
            });
          }),
          { signal },
        );
        await encoder.dispose();
      }
      const { records, bytes } = await store.stats();
      progress.done(`${records} embeddings, ${(bytes / 1e6).toFixed(1)} MB`);
      return { hashes, records, bytes };
    } finally {
      await store.close();
    }
  });
}

async function* counted(embeddings: AsyncIterable<UserEmbedding>, each: () => void): AsyncGenerator<UserEmbedding> {
  for await (const embedding of embeddings) {
    each();
    yield embedding;
  }
}
