import { readFile, rm } from 'node:fs/promises';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { evaluate, nextItem, percentile, type Outcome, type System } from '@user-llm/evaluation';
import { Random, writeFileAtomically } from '@user-llm/onnx-autograd';
import type { UserEmbedding } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { counted, type Progress } from '../run/console-output.js';
import { identityOf, type StageRecord } from '../run/run-manifest.js';
import { adaptSystem } from '../stages/adapt.js';
import { loadAdaptedEncoder, openAdapted, stageOf } from '../stages/adapted.js';
import { loadEncoder, pretrain, pretrained } from '../stages/pretrain.js';
import { encoderSystem } from '../systems/encoder-system.js';
import { beamWidth, languageSystem } from '../systems/language-system.js';
import { folderName } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import type { Cell } from './grid.js';

const timedUsers = 20;
const rounds = 5;

/** What a cell costs for each user, medians in milliseconds. */
export interface CellCosts {
  /** K x D numbers in float32. */
  readonly embeddingBytes: number;
  /** Of the store's file, by the number of its records: names, hashes, times, checksum and pages included. */
  readonly storeBytes: number;
  /** The keys and values (or prompt vectors) that the model reads, where a server keeps them. */
  readonly userStateBytes: number;
  /** The store read with its checksum, and the user's keys and values: what a request adds to a prompt. */
  readonly readMs: number;
  /** The whole history, encoder and resampler: what a user costs once, or after new events. */
  readonly encodeMs: number;
}

/** Trains a cell, writes its users into a store of their own, times it, and ranks for the sample of test users. */
export async function runCell(workspace: Workspace, cell: Cell, users: number): Promise<{ costs: CellCosts; outcome: Outcome }> {
  const { run } = workspace;
  const { spec } = cell;
  await pretrain(workspace, cell.size);
  const adapted = await adaptSystem(workspace, spec, workspace.budget.adapt);
  const work = async (): Promise<{ costs: CellCosts }> => {
    const corpus = await workspace.corpus();
    const progress = workspace.output.progress(`measure ${spec.name}`, `measuring ${spec.title}`);
    const place = run.path('stores', folderName(spec.name));
    await rm(place, { recursive: true, force: true });
    const store = await openStore(`lmdb:${place}`);
    try {
      const costs = await costsOf(workspace, cell, corpus, store);
      const outcome = await rankedBy(workspace, cell, corpus, { store, users, adapted, progress });
      await saveOutcome(workspace, outcome);
      progress.done(`${costs.embeddingBytes} bytes per user, read in ${costs.readMs.toFixed(2)} ms`);
      return { costs };
    } finally {
      await store.close();
    }
  };
  const key = { adapted: identityOf(adapted), users };
  const measured = await run.stage(`measure ${spec.name}`, key, work, { leaves: [outcomePart(spec.name)] });
  return { costs: measured.result.costs as CellCosts, outcome: await readOutcome(workspace, spec.name) };
}

async function costsOf(workspace: Workspace, { spec }: Cell, corpus: Corpus, store: EmbeddingStore): Promise<CellCosts> {
  const { signal, seed } = workspace;
  const encoder = await loadAdaptedEncoder(workspace, spec);
  await store.putMany(encoder.encode(corpus.known, { signal }), { signal });
  const { bytes, records } = await store.stats();
  const system = await openAdapted(workspace, spec, corpus, { users: { store, encoder } });
  try {
    const timed = Random.of(seed, 'timed')
      .shuffle(corpus.split.test.map(({ user }) => user))
      .slice(0, timedUsers);
    const readMs: number[] = [];
    const encodeMs: number[] = [];
    let stateBytes = 0;
    let embedding: UserEmbedding | undefined;
    // Both in turn, so that a machine that slows down slows both; the first round fills caches and does not count.
    for (let round = 0; round <= rounds; round++)
      for (const user of timed) {
        signal.throwIfAborted();
        const began = performance.now();
        embedding = (await system.embedding(user))!;
        const state = await system.served.userState(embedding);
        const read = performance.now();
        await encoder.encodeUser(corpus.known, user);
        if (round === 0) continue;
        readMs.push(read - began);
        encodeMs.push(performance.now() - read);
        stateBytes = state.packed.byteLength;
      }
    return {
      embeddingBytes: embedding!.data.byteLength,
      storeBytes: bytes / records,
      userStateBytes: stateBytes,
      readMs: percentile(readMs, 50),
      encodeMs: percentile(encodeMs, 50),
    };
  } finally {
    await system.dispose();
  }
}

interface Ranking {
  readonly store: EmbeddingStore;
  readonly users: number;
  readonly adapted: StageRecord;
  readonly progress: Progress;
}

async function rankedBy(
  workspace: Workspace,
  { spec }: Cell,
  corpus: Corpus,
  { store, users, adapted, progress }: Ranking,
): Promise<Outcome> {
  const training = adapted.result.training as { examplesSeen: number; steps: number; seconds: number };
  const system = languageSystem(
    spec,
    async () =>
      openAdapted(workspace, spec, corpus, {
        users: { store, encoder: await loadAdaptedEncoder(workspace, spec) },
      }),
    { examplesSeen: training.examplesSeen, notes: [`${counted(training.steps, 'step')} in ${Math.round(training.seconds)} s`] },
  );
  try {
    return await asked(workspace, corpus, system, { users, progress });
  } finally {
    await system.close();
  }
}

/** An encoder's own item head, asked for all test users: what a width is worth without any language model. */
export async function runWidth(workspace: Workspace, cell: Cell): Promise<Outcome> {
  const name = `encoder of width ${cell.size.width}`;
  await pretrain(workspace, cell.size);
  const work = async (): Promise<Record<string, never>> => {
    const corpus = await workspace.corpus();
    const progress = workspace.output.progress(`measure ${name}`, `the ${name} alone`);
    const encoder = await loadEncoder(workspace, {}, cell.size);
    try {
      await saveOutcome(workspace, await asked(workspace, corpus, { ...encoderSystem(encoder, corpus), name }, { progress }));
    } finally {
      await encoder.dispose();
    }
    progress.done();
    return {};
  };
  const key = { encoder: pretrained(workspace, cell.size).result.hash };
  await workspace.run.stage(`measure ${name}`, key, work, { leaves: [outcomePart(name)] });
  return readOutcome(workspace, name);
}

/** Asks one system about the test items: of all users, or of the seeded sample that the language models rank for. */
async function asked(
  { seed, signal }: Workspace,
  corpus: Corpus,
  system: System,
  { users, progress }: { users?: number; progress: Progress },
): Promise<Outcome> {
  let outcome: Outcome | undefined;
  await evaluate({
    task: nextItem(corpus.split),
    systems: [system],
    seed,
    depth: beamWidth,
    ...(users !== undefined && { sample: { users, systems: [system.name] } }),
    signal,
    onOutcome: (found) => void (outcome = found),
    onProgress: ({ done, total }) => progress.update({ fraction: done / total, detail: `${done}/${total} users` }),
  });
  return outcome!;
}

const outcomePart = (system: string): string => `outcomes/${folderName(system).replaceAll(' ', '-')}.json`;

async function saveOutcome(workspace: Workspace, outcome: Outcome): Promise<void> {
  await writeFileAtomically(workspace.run.path(outcomePart(outcome.system)), [Buffer.from(JSON.stringify(outcome))]);
}

async function readOutcome({ run }: Workspace, system: string): Promise<Outcome> {
  const part = outcomePart(system);
  return run.read(part, 'sweep', async () => JSON.parse(await readFile(run.path(part), 'utf8')) as Outcome);
}

/** How a cell was trained. */
export function trainingOf(workspace: Workspace, { size, spec }: Cell): { encoder: StageRecord; adapted: StageRecord } {
  return { encoder: pretrained(workspace, size), adapted: workspace.run.need(stageOf(spec), 'sweep') };
}
