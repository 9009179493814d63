import { existsSync } from 'node:fs';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { takeUsers, type EventColumns } from '@user-llm/event-tokenizer';
import type { UserEmbedding } from '@user-llm/user-encoder';
import type { StageRecord } from '../run/run-manifest.js';
import type { SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, stageOf } from './adapted.js';

const storePart = 'users';
const stagePrefix = 'encode ';
const stageNameOf = ({ name }: SystemSpec): string => `${stagePrefix}${name}`;

/** The store as the systems' users were written into it. */
export async function openUsers({ run, systems }: Workspace): Promise<EmbeddingStore> {
  const written = systems.flatMap((spec) => run.finished(stageNameOf(spec))?.result.records ?? []).map(Number);
  const store = await run.read(storePart, 'encode', () => openStore(`lmdb:${run.path(storePart)}`));
  const { records } = await store.stats();
  const expected = Math.max(0, ...written);
  if (records >= expected) return store;
  await store.close();
  const problem = `the store in ${run.path(storePart)} holds ${records} embeddings of ${expected}`;
  throw run.damaged(storePart, 'encode', problem);
}

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
  const adapted = run.need(stageOf(spec), 'adapt');
  const work = async (): Promise<{ hash: string; records: number; bytes: number }> => {
    const progress = workspace.output.progress('encode', `writing the users into the store, ${spec.title}`);
    // A new store holds nobody, whoever was in the one before.
    if (!existsSync(run.path(storePart))) await run.forget(stagePrefix);
    // What is written into must be whole: all of it is looked at.
    const store = await run.read(storePart, 'encode', () => openStore(`lmdb:${run.path(storePart)}`, { check: 'full' }));
    const encoder = await loadAdaptedEncoder(workspace, spec);
    try {
      const left = await missingUsers(store, encoder.hash, corpus.known);
      const total = left.users.length;
      let done = 0;
      const began = performance.now();
      await store.putMany(
        counted(encoder.encode(left, { signal }), () => {
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
  };
  return run.stage(stageNameOf(spec), [adapted.key, adapted.result.encoder], work, { leaves: [storePart] });
}

/** Those of whom an interrupted run has left no whole embedding by this encoder. */
async function missingUsers(store: EmbeddingStore, encoder: string, known: EventColumns): Promise<EventColumns> {
  if ((await store.count({ encoder })) === 0) return known;
  const missing: string[] = [];
  for (const user of known.users) if ((await store.get({ user }, { encoder })).status !== 'found') missing.push(user);
  return takeUsers(known, missing);
}

async function* counted(embeddings: AsyncIterable<UserEmbedding>, each: () => void): AsyncGenerator<UserEmbedding> {
  for await (const embedding of embeddings) {
    each();
    yield embedding;
  }
}
