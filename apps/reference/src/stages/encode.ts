import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { UserEncoder, type UserEmbedding } from '@user-llm/user-encoder';
import type { StageRecord } from '../run/run-folder.js';
import type { SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { stageOf, systemFolder } from './adapt.js';

export const openUsers = (workspace: Workspace): Promise<EmbeddingStore> => openStore(`lmdb:${workspace.run.path('users')}`);

/** The encoder as it came out of adapting a system. */
export async function loadAdaptedEncoder(workspace: Workspace, name: string): Promise<UserEncoder> {
  const { tokenizer } = await workspace.corpus();
  return UserEncoder.load(`${systemFolder(workspace, name)}-encoder`, { tokenizer, ...workspace.runtime });
}

const stageNameOf = ({ name }: SystemSpec): string => `encode ${name}`;

/** The record of the embeddings that a system reads. */
export const encoded = ({ run }: Workspace, spec: SystemSpec): StageRecord => run.need(stageNameOf(spec), 'encode');

/** Writes every user's embedding, without the held-out event, by the encoder of each system that reads users. */
export async function encodeUsers(workspace: Workspace): Promise<void> {
  for (const spec of workspace.systems) if (spec.reading.embedding) await encodeFor(workspace, spec);
}

/** Writes every user's embedding by the encoder that came out of adapting a system. */
export async function encodeFor(workspace: Workspace, spec: SystemSpec): Promise<StageRecord> {
  const { run, signal } = workspace;
  const corpus = await workspace.corpus();
  const { key } = run.need(stageOf(spec), 'adapt');
  return run.stage(stageNameOf(spec), key, async () => {
    const progress = workspace.output.progress('encode', `writing the users into the store, ${spec.title}`);
    const store = await openUsers(workspace);
    const total = corpus.known.users.length;
    let done = 0;
    const began = performance.now();
    const encoder = await loadAdaptedEncoder(workspace, spec.name);
    try {
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
      const { records, bytes } = await store.stats();
      progress.done(`${records} embeddings, ${(bytes / 1e6).toFixed(1)} MB`);
      return { hash: encoder.hash, records, bytes };
    } finally {
      await encoder.dispose();
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
