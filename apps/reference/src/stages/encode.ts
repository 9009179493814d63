import { rename, rm } from 'node:fs/promises';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { syncFolder } from '@user-llm/onnx-autograd';
import type { UserEmbedding } from '@user-llm/user-encoder';
import type { StageRecord } from '../run/run-manifest.js';
import { userSystems } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, stageOf } from './adapted.js';

const storePart = 'users';

/** The store as `encode` left it. */
export async function openUsers({ run }: Workspace): Promise<EmbeddingStore> {
  const { result } = run.need('encode', 'encode');
  const store = await run.read(storePart, 'encode', () => openStore(`lmdb:${run.path(storePart)}`));
  const { records } = await store.stats();
  if (records >= Number(result.records)) return store;
  await store.close();
  const problem = `the store in ${run.path(storePart)} holds ${records} embeddings of ${String(result.records)}`;
  throw run.damaged(storePart, 'encode', problem);
}

/** Writes every user's embedding, without the held-out event, by each adapted encoder. */
export async function encodeUsers(workspace: Workspace): Promise<StageRecord> {
  const { run, signal } = workspace;
  const corpus = await workspace.corpus();
  const adapted = userSystems.map((spec) => run.need(stageOf(spec), 'adapt'));
  const key = adapted.map(({ key, result }) => [key, result.encoder]);
  const work = async (): Promise<{ hashes: Record<string, string>; records: number; bytes: number }> => {
    const progress = workspace.output.progress('encode', 'writing the users into the store');
    // What is there is of other encoders, or damaged. A new store takes its place when every user is in it.
    const place = run.path(storePart);
    const fresh = `${place}.partial`;
    for (const each of [place, fresh]) await rm(each, { recursive: true, force: true });
    const store = await openStore(`lmdb:${fresh}`);
    let written: { records: number; bytes: number };
    const hashes: Record<string, string> = {};
    const total = userSystems.length * corpus.known.users.length;
    let done = 0;
    const began = performance.now();
    try {
      for (const spec of userSystems) {
        const encoder = await loadAdaptedEncoder(workspace, spec);
        hashes[spec.name] = encoder.hash;
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
      written = await store.stats();
    } catch (error) {
      await store.close();
      await rm(fresh, { recursive: true, force: true });
      throw error;
    }
    await store.close();
    await rename(fresh, place);
    await syncFolder(run.folder);
    const { records, bytes } = written;
    progress.done(`${records} embeddings, ${(bytes / 1e6).toFixed(1)} MB`);
    return { hashes, records, bytes };
  };
  return run.stage('encode', key, work, { leaves: [storePart] });
}

async function* counted(embeddings: AsyncIterable<UserEmbedding>, each: () => void): AsyncGenerator<UserEmbedding> {
  for await (const embedding of embeddings) {
    each();
    yield embedding;
  }
}
