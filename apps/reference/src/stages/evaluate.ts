import { createHash } from 'node:crypto';
import {
  evaluate,
  itemKnn,
  machineDescription,
  markov,
  mix,
  mostFrequentGenre,
  popularity,
  type Outcome,
  type Report,
  type System,
} from '@user-llm/evaluation';
import type { CatalogueWay } from '@user-llm/cross-attention';
import type { EmbeddingStore } from '@user-llm/embedding-store';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { OutcomeFolder } from '../run/outcome-folder.js';
import { encoderSystem } from '../systems/encoder-system.js';
import { beamWidth, languageSystem, misfitSystem } from '../systems/language-system.js';
import type { SystemSpec } from '../system-specs.js';
import { sampleSize } from '../run/run-manifest.js';
import type { Workspace } from '../workspace.js';
import { misfitOf, stageOf } from './adapted.js';
import { encoded, openUsers } from './encode.js';
import { furtherMeasurements } from './further-measurements.js';
import { openSystem } from './open-system.js';
import { loadEncoder, pretrained } from './pretrain.js';
import { chooseRetrieverShare, retrieverShares } from './retrieval.js';
import { showReport } from './show-report.js';
import { tasksOf } from './test-questions.js';
import { aboutOf, stageSeconds, trainingRecords } from './training-records.js';

const labelsByToken = 'one token per label: one pass over the prompt scores them all';

/** How the language models rank and choose among labels, for the report. */
export const rankingMethods: Record<CatalogueWay, { method: string; among: string; labels: string }> = {
  title: {
    method: `beam search over the titles' prefix trie, width ${beamWidth}`,
    among: 'the whole vocabulary',
    labels: 'the probability of each label as the answer in words',
  },
  'item-tokens': {
    method: 'one token per item: one pass over the prompt scores the catalogue',
    among: 'all items',
    labels: labelsByToken,
  },
  retrieve: {
    method: 'the encoder retrieves (a text prompt: Mix), the model ranks anew by item tokens, and both are mixed',
    among: 'all items',
    labels: labelsByToken,
  },
};

/** What evaluations of one run share. */
interface Bench {
  readonly corpus: Corpus;
  readonly store: EmbeddingStore;
  readonly encoder: UserEncoder;
}

/** Asks all systems of the run about the held-out events, measures what is measured beside that, and writes the report. */
export async function evaluateAll(workspace: Workspace): Promise<Report> {
  const { run, systems } = workspace;
  for (const spec of systems) answerKey(workspace, spec);
  await run.begin();
  const began = performance.now();
  const stagesBefore = stageSeconds(workspace, systems);
  return withBench(workspace, async (bench) => {
    const { report, secondsBefore } = await askAll(workspace, bench, systems);
    const measured = await furtherMeasurements(workspace, bench);
    const seconds = stagesBefore + secondsBefore + (performance.now() - began) / 1000;
    const complete = described(report, workspace, bench, systems).with({
      finished: true,
      durationSeconds: Math.round(seconds * 10) / 10,
      ...measured,
    });
    await complete.writeJson(run.path('report.json'));
    await complete.writeHtml(run.path('report.html'));
    showReport(workspace, complete);
    return complete;
  });
}

/** Asks one language-model system, as soon as it is trained. The outcome is kept for the report. */
export async function evaluateSystem(workspace: Workspace, spec: SystemSpec): Promise<void> {
  await withBench(workspace, async (bench) => {
    await ask(workspace, bench, { counting: false, specs: [spec] });
  });
}

/** A report on the systems that are finished, while others are not: their answers are known, or are asked for. */
export function reportSoFar(workspace: Workspace, finished: readonly SystemSpec[]): Promise<Report> {
  const missing = workspace.systems.filter((spec) => !finished.includes(spec)).map(({ name }) => name);
  return withBench(workspace, async (bench) => {
    const { report } = await askAll(workspace, bench, finished);
    return described(report, workspace, bench, finished).with({ finished: false, unfinished: missing });
  });
}

async function withBench<T>(workspace: Workspace, work: (bench: Bench) => Promise<T>): Promise<T> {
  const corpus = await workspace.corpus();
  const store = await openUsers(workspace);
  try {
    const encoder = await loadEncoder(workspace);
    try {
      return await work({ corpus, store, encoder });
    } finally {
      await encoder.dispose();
    }
  } finally {
    await store.close();
  }
}

interface Asked {
  readonly report: Report;
  /** What the answers had taken that were there already. */
  readonly secondsBefore: number;
}

const askAll = (workspace: Workspace, bench: Bench, specs: readonly SystemSpec[]): Promise<Asked> =>
  ask(workspace, bench, { counting: true, specs });

/** @param counting whether the counting baselines and the encoder alone are asked too */
async function ask(
  workspace: Workspace,
  { corpus, store, encoder }: Bench,
  { counting, specs }: { readonly counting: boolean; readonly specs: readonly SystemSpec[] },
): Promise<Asked> {
  const { run, output, seed, signal } = workspace;
  const fitting = fittingOf(workspace, specs);
  if (run.settings.ranking === 'retrieve') for (const spec of fitting) await chooseRetrieverShare(workspace, spec);
  const tasks = tasksOf(corpus);
  const models = specs.map((spec) => {
    const doesNotFit = misfitOf(workspace, spec);
    if (doesNotFit !== undefined) return misfitSystem(spec, doesNotFit);
    return languageSystem(spec, () => openSystem(workspace, spec, corpus, store), aboutOf(workspace, spec));
  });
  const others: System[] = [popularity(), markov(), itemKnn(), mix(), ...(tasks.length > 1 ? [mostFrequentGenre()] : [])];
  const systems: System[] = [...(counting ? [...others, encoderSystem(encoder, corpus)] : []), ...models];
  const keys = new Map([
    ...others.map(({ name }) => [name, run.need('fit', 'fit').key] as const),
    ['encoder', String(pretrained(workspace).result.hash)],
    ...specs.map((spec) => [spec.name, answerKey(workspace, spec)] as const),
  ]);
  const folder = await OutcomeFolder.open(run);
  const known: Outcome[] = [];
  const spent = new Map<string, number>();
  const spentOn = ({ system, task }: Pick<Outcome, 'system' | 'task'>): string => `${system} ${task}`;
  let secondsBefore = 0;
  for (const { name } of systems)
    for (const task of tasks) {
      const kept = await folder.read(name, task.name, keys.get(name)!);
      if (kept === undefined) continue;
      known.push(kept.outcome);
      spent.set(spentOn(kept.outcome), kept.seconds);
      secondsBefore += kept.seconds;
    }
  let since = performance.now();
  const keep = async (outcome: Outcome): Promise<void> => {
    const now = performance.now();
    const seconds = (spent.get(spentOn(outcome)) ?? 0) + (now - since) / 1000;
    spent.set(spentOn(outcome), seconds);
    since = now;
    await folder.write({ outcome, seconds }, keys.get(outcome.system)!);
  };
  const sample = { users: sampledUsers(workspace, corpus), systems: specs.map(({ name }) => name) };
  const progress = output.progress('eval', counting || specs.length > 1 ? 'evaluating' : `evaluating ${specs[0].title}`);
  try {
    const report = await evaluate({
      task: tasks,
      systems,
      seed,
      depth: beamWidth,
      sample,
      known,
      signal,
      onPart: keep,
      onOutcome: async (outcome) => {
        await keep(outcome);
        // One language model in memory at a time: the last task's outcome ends a system.
        if (outcome.task === tasks.at(-1)!.name) await models.find(({ name }) => name === outcome.system)?.close();
      },
      onProgress: ({ system, task, done, total }) => {
        const order = systems.findIndex(({ name }) => name === system);
        const place = Math.max(0, order) * tasks.length + tasks.findIndex(({ name }) => name === task);
        progress.update({
          fraction: (place + done / total) / (systems.length * tasks.length),
          detail: `${system}, ${task}, ${done}/${total} users`,
        });
      },
    });
    progress.done(`${systems.length} system${systems.length === 1 ? '' : 's'}, ${sample.users} users for the language models`);
    return { report, secondsBefore };
  } finally {
    for (const model of models) await model.close();
  }
}

/** What a system's answers depend on: its training and, where it reads users, what is in the store. */
function answerKey(workspace: Workspace, spec: SystemSpec): string {
  if (spec.reading.embedding) return encoded(workspace, spec).key;
  const { key, finishedAt } = workspace.run.need(stageOf(spec), 'adapt');
  return `${key} ${finishedAt}`;
}

const fittingOf = (workspace: Workspace, specs: readonly SystemSpec[]): SystemSpec[] =>
  specs.filter((spec) => misfitOf(workspace, spec) === undefined);

/** As many as are wanted, or all there are. */
const sampledUsers = ({ run }: Workspace, { split }: Corpus): number => Math.min(sampleSize(run.settings), split.test.length);

/** The report with what the run knows of data, machine and training. */
function described(report: Report, workspace: Workspace, { corpus, encoder }: Bench, specs: readonly SystemSpec[]): Report {
  const { settings } = workspace.run;
  const fitting = fittingOf(workspace, specs);
  return report.with({
    dataset: {
      name: corpus.dataset.name,
      simulated: corpus.dataset.simulated,
      users: corpus.log.users.length,
      items: corpus.log.itemIds.length,
      events: corpus.events.counts.events,
      sha256: corpus.sha256.includes('+') ? createHash('sha256').update(corpus.sha256).digest('hex') : corpus.sha256,
    },
    machine: machineDescription(),
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    sampleUsers: sampledUsers(workspace, corpus),
    ranking: { way: settings.ranking, ...rankingMethods[settings.ranking], ...retrieverShares(workspace, fitting) },
    ...(settings.examples === undefined ? {} : { examplesPerSystem: settings.examples }),
    ...trainingRecords(workspace, encoder, fitting),
  });
}
