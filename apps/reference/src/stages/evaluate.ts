import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import {
  evaluate,
  favouriteGenre,
  itemKnn,
  machineDescription,
  markov,
  mix,
  mostFrequentGenre,
  nextItem,
  popularity,
  type Curve,
  type Outcome,
  type Report,
  type System,
  type Task,
  type TrainingRecord,
} from '@user-llm/evaluation';
import type { RankingWay } from '@user-llm/cross-attention';
import type { EmbeddingStore } from '@user-llm/embedding-store';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import type { RunFolder } from '../run/run-folder.js';
import { encoderSystem } from '../systems/encoder-system.js';
import { beamWidth, languageSystem, type LanguageSystem } from '../systems/language-system.js';
import { folderName, languageSystems, mainSystem, type SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, openAdapted, stageOf } from './adapted.js';
import { beamLoss } from './beam-loss.js';
import { openUsers } from './encode.js';
import { loadEncoder } from './pretrain.js';
import { chooseRetrieverShare, openRetriever, retrieverShareOf, retrieverShares } from './retrieval.js';
import { scalingCurve } from './scaling.js';

/** Test users that the language models rank for: fewer where the whole run is short. */
const sampleUsers = (minutes: number): number => (minutes < 10 ? 80 : 200);

/** How the language models rank, for the report. */
export const rankingMethods: Record<RankingWay, { method: string; among: string }> = {
  title: { method: `beam search over the titles' prefix trie, width ${beamWidth}`, among: 'the whole vocabulary' },
  'item-tokens': { method: 'one token per item: one pass over the prompt scores the catalogue', among: 'all items' },
  retrieve: {
    method: 'the encoder retrieves (a text prompt: Mix), the model ranks anew by item tokens, and both are mixed',
    among: 'all items',
  },
};

interface Adapted {
  readonly training: {
    examplesSeen: number;
    steps: number;
    seconds: number;
    stillFalling: boolean;
    trainedParameters: number;
    curve: Curve['points'];
    validation: Curve['points'];
  };
}

/** Asks every system about the held-out events and writes the report. */
export async function evaluateAll(workspace: Workspace): Promise<Report> {
  const { run, output, seed, signal } = workspace;
  const corpus = await workspace.corpus();
  run.need('encode', 'encode');
  for (const spec of languageSystems) run.need(stageOf(spec), 'adapt');
  await run.begin();
  const began = performance.now();
  if (run.settings.ranking === 'retrieve') for (const spec of languageSystems) await chooseRetrieverShare(workspace, spec);
  const store = await openUsers(workspace);
  const encoder = await loadEncoder(workspace);
  try {
    const tasks: Task[] = [nextItem(corpus.split)];
    if (corpus.categories.some((list) => list.length > 0)) tasks.push(favouriteGenre(corpus.log));
    const models = languageSystems.map((spec) =>
      languageSystem(spec, () => openSystem(workspace, spec, corpus, store), aboutOf(workspace, spec)),
    );
    const counting: System[] = [popularity(), markov(), itemKnn(), mix(), ...(tasks.length > 1 ? [mostFrequentGenre()] : [])];
    const systems: System[] = [...counting, encoderSystem(encoder, corpus), ...models];
    const sample = {
      users: run.settings.users ?? sampleUsers(run.settings.minutes),
      systems: languageSystems.map(({ name }) => name),
    };
    await mkdir(run.path('outcomes'), { recursive: true });
    const known = await readOutcomes(workspace, systems);
    const progress = output.progress('eval', 'evaluating');
    const report = await evaluate({
      task: tasks,
      systems,
      seed,
      depth: beamWidth,
      sample,
      known,
      signal,
      onOutcome: async (outcome) => {
        await writeOutcome(workspace, outcome);
        // One language model in memory at a time: the last task's outcome ends a system.
        if (outcome.task === tasks.at(-1)!.name) await models.find(({ name }) => name === outcome.system)?.close();
      },
      onProgress: ({ system, task, done, total }) => {
        const place =
          Math.max(
            0,
            systems.findIndex(({ name }) => name === system),
          ) *
            tasks.length +
          tasks.findIndex(({ name }) => name === task);
        progress.update({
          fraction: (place + done / total) / (systems.length * tasks.length),
          detail: `${system}, ${task}, ${done}/${total} users`,
        });
      },
    });
    for (const model of models) await model.close();
    progress.done(`${systems.length} systems, ${sample.users} users for the language models`);
    const extra = await measure(workspace, corpus, store);
    const complete = report.with({
      dataset: {
        name: corpus.dataset.name,
        simulated: corpus.dataset.simulated,
        users: corpus.log.users.length,
        items: corpus.log.itemIds.length,
        events: corpus.events.counts.events,
        sha256: corpus.sha256.includes('+') ? createHash('sha256').update(corpus.sha256).digest('hex') : corpus.sha256,
      },
      machine: machineDescription(),
      durationSeconds: Math.round((stageSeconds(workspace) + (performance.now() - began) / 1000) * 10) / 10,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      sampleUsers: sample.users,
      ranking: { way: run.settings.ranking, ...rankingMethods[run.settings.ranking], ...retrieverShares(workspace) },
      ...extra,
      ...trainingRecords(workspace, encoder),
    });
    await complete.writeJson(run.path('report.json'));
    await complete.writeHtml(run.path('report.html'));
    show(workspace, complete);
    return complete;
  } finally {
    await encoder.dispose();
    await store.close();
  }
}

async function openSystem(
  workspace: Workspace,
  spec: SystemSpec,
  corpus: Corpus,
  store: EmbeddingStore,
): Promise<LanguageSystem> {
  const share = retrieverShareOf(workspace, spec);
  return openAdapted(workspace, spec, corpus, {
    ...(spec.reading.embedding ? { users: { store, encoder: await loadAdaptedEncoder(workspace, spec) } } : {}),
    ...(share === undefined ? {} : { retrieval: { retriever: await openRetriever(workspace, spec), share } }),
  });
}

const adaptedRecord = ({ run }: Workspace, spec: SystemSpec): Adapted['training'] =>
  (run.need(stageOf(spec), 'adapt').result as unknown as Adapted).training;

function aboutOf(workspace: Workspace, spec: SystemSpec): { examplesSeen: number; notes: string[] } {
  const { examplesSeen, seconds, steps } = adaptedRecord(workspace, spec);
  return { examplesSeen, notes: [`${steps} steps in ${Math.round(seconds)} s`] };
}

/** Latency against history length, and what the beam loses: by the main system and the text prompt side by side. */
async function measure(workspace: Workspace, corpus: Corpus, store: EmbeddingStore): Promise<Record<string, unknown>> {
  const main = await openSystem(workspace, mainSystem, corpus, store);
  const text = await openSystem(
    workspace,
    languageSystems.find(({ name }) => name === 'text-prompt-50')!,
    corpus,
    store,
  );
  try {
    return { scaling: await scalingCurve(workspace, corpus, store, main, text), beam: await beamLoss(workspace, corpus, main) };
  } finally {
    await main.dispose();
    await text.dispose();
  }
}

function stageSeconds({ run }: Workspace): number {
  return ['fit', 'pretrain', 'language', ...languageSystems.map(stageOf), 'encode'].reduce(
    (sum, stage) => sum + (run.finished(stage)?.seconds ?? 0),
    0,
  );
}

function trainingRecords(
  workspace: Workspace,
  encoder: UserEncoder,
): {
  training: TrainingRecord[];
  curves: Curve[];
} {
  const training: TrainingRecord[] = [];
  const curves: Curve[] = [];
  if (encoder.training) {
    const { steps, seconds, stillImproving, losses } = encoder.training;
    training.push({ name: 'encoder', steps, seconds, stillFalling: stillImproving });
    // The encoder's record has steps; its seconds pass evenly.
    curves.push({
      name: 'encoder',
      kind: 'training',
      points: losses.map(({ step, loss }) => ({ step, loss, seconds: (step / steps) * seconds })),
    });
  }
  for (const spec of languageSystems) {
    const { steps, seconds, examplesSeen, stillFalling, trainedParameters, curve, validation } = adaptedRecord(workspace, spec);
    training.push({ name: spec.name, steps, seconds, examplesSeen, stillFalling, parameters: trainedParameters });
    curves.push(
      { name: spec.name, kind: 'training', points: curve },
      { name: spec.name, kind: 'validation', points: validation },
    );
  }
  return { training, curves };
}

/** Outcomes of an interrupted evaluation of the same models. */
async function readOutcomes({ run }: Workspace, systems: readonly System[]): Promise<Outcome[]> {
  const found: Outcome[] = [];
  for (const { name } of systems)
    for (const task of ['next-item', 'favourite-genre']) {
      try {
        const saved = JSON.parse(await readFile(run.path('outcomes', outcomeFile(name, task)), 'utf8')) as {
          key: string;
          outcome: Outcome;
        };
        if (saved.key === outcomeKey(run, name)) found.push(saved.outcome);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error;
      }
    }
  return found;
}

const outcomeFile = (system: string, task: string): string => `${folderName(system)}.${task}.json`;

/** An outcome is kept while what it was measured on stands: the store, and the system as it was trained. */
function outcomeKey(run: RunFolder, system: string): string {
  const spec = languageSystems.find(({ name }) => name === system);
  const trained = spec ? stageOf(spec) : 'pretrain';
  return `${run.finished('encode')?.key} ${run.finished(trained)?.finishedAt}`;
}

async function writeOutcome({ run }: Workspace, outcome: Outcome): Promise<void> {
  const key = outcomeKey(run, outcome.system);
  await writeFileAtomically(run.path('outcomes', outcomeFile(outcome.system, outcome.task)), [
    Buffer.from(JSON.stringify({ key, outcome })),
  ]);
}

function show({ output, run }: Workspace, report: Report): void {
  output.print();
  for (const sentence of report.summary) output.print(sentence);
  output.print();
  for (const task of ['next-item', 'favourite-genre']) {
    const rows = report.rows.filter((row) => row.task === task).map(({ task: _, ...row }) => row);
    if (rows.length === 0) continue;
    output.print(
      task === 'next-item'
        ? 'Which item comes next (filtered: without what the user knows already)'
        : 'Which genre does the user like best',
    );
    output.table(rows);
    output.print();
  }
  const { scaling } = report.toJSON();
  for (const { events, textPrompt, userLlm, ratio } of scaling ?? [])
    output.print(
      `${String(events).padStart(4)} events: first token after ${format(textPrompt.p50Ms)} with the text prompt (${whole(textPrompt.tokens)} tokens), ${format(userLlm.p50Ms)} with the embedding (${whole(userLlm.tokens)} tokens)${ratio === null ? '' : `: ${ratio.toFixed(1)} times as fast`}`,
    );
  output.print();
  output.print(`report: ${run.path('report.html')} and ${run.path('report.json')}`);
  output.result({ event: 'report', summary: report.summary, json: run.path('report.json'), html: run.path('report.html') });
}

const format = (ms: number | null): string => (ms === null ? 'does not fit' : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
const whole = (tokens: number | null): string => (tokens === null ? '-' : String(Math.round(tokens)));
