import { rm } from 'node:fs/promises';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { takeLast, takeUsers } from '@user-llm/event-tokenizer';
import { measureScaling, type ScalingRow } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import type { UserEmbedding, UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { nextQuestions } from '../prompts.js';
import type { LanguageSystem } from '../systems/language-system.js';
import { mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder } from './adapted.js';

const lengths = [50, 100, 200];
const usersMeasured = 5;
const scalingStore = 'scaling-users';

/**
 * Time to the first token: the history cut to its last N events, in the prompt or as an embedding in the store. The store read and
 * its checksum, and the user's keys and values, count for the embedding.
 */
export async function scalingCurve(
  workspace: Workspace,
  corpus: Corpus,
  main: LanguageSystem,
  text: LanguageSystem,
): Promise<ScalingRow[]> {
  const progress = workspace.output.progress('scaling', 'latency against history length');
  const long = corpus.split.test.filter(({ from, to }) => to - from >= lengths.at(-1)!).map(({ user }) => user);
  const users = Random.of(workspace.seed, 'scaling').shuffle(long).slice(0, usersMeasured);
  if (users.length === 0) {
    progress.done(`no user has ${lengths.at(-1)} events`);
    return [];
  }
  // What is cut is measured, and nobody's embedding: it has a store of its own, for as long as that takes.
  const folder = workspace.run.path(scalingStore);
  const store = await openStore(`lmdb:${folder}`);
  try {
    const encoder = await loadAdaptedEncoder(workspace, mainSystem);
    try {
      const sides = { store, encoder, main, text, users };
      const rows = await measure(workspace, corpus, sides, (fraction) => progress.update({ fraction }));
      progress.done();
      return rows;
    } finally {
      await encoder.dispose();
    }
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Sides {
  readonly store: EmbeddingStore;
  readonly encoder: UserEncoder;
  readonly main: LanguageSystem;
  readonly text: LanguageSystem;
  readonly users: readonly number[];
}

async function measure(
  { signal }: Workspace,
  corpus: Corpus,
  { store, encoder, main, text, users }: Sides,
  watch: (fraction: number) => void,
): Promise<ScalingRow[]> {
  const tenant = (events: number): string => `scaling-${events}`;
  for (const events of lengths)
    await store.putMany(encoder.encode(takeLast(takeUsers(corpus.known, users), events), { tenant: tenant(events) }));
  const question = nextQuestions[0];
  return measureScaling({
    events: lengths,
    users,
    repeats: 5,
    restMs: 20,
    signal,
    onProgress: ({ done, total }) => watch(done / total),
    textPrompt: (user, events) => {
      const end = corpus.known.offsets[user + 1] - corpus.known.offsets[user];
      const start = corpus.log.offsets[user];
      return text.firstToken(text.promptIds(corpus.log.items.subarray(start, start + end), question, events), undefined);
    },
    userLlm: async (user, events) => {
      const began = performance.now();
      const found = await store.get({ tenant: tenant(events), user: corpus.known.users[user] }, { encoder: encoder.hash });
      if (found.status !== 'found') throw new Error(`internal: the embedding that was just written is ${found.status}`);
      const readMs = performance.now() - began;
      const sample = await main.firstToken(main.promptIds(new Int32Array(0), question, 0), found.embedding as UserEmbedding);
      return sample && { tokens: sample.tokens, ms: readMs + sample.ms };
    },
  });
}
