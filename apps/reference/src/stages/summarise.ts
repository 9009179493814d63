import { mkdir } from 'node:fs/promises';
import { LanguageModel } from '@user-llm/cross-attention';
import { sampledCases } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from '../corpus.js';
import { validatedUsers, validationMoments } from '../examples.js';
import { Prompts, summaryQuestion } from '../prompts.js';
import { sampleSize, type StageRecord } from '../run/run-manifest.js';
import type { Moment, Summaries } from '../summaries/summaries.js';
import { templateSummaries } from '../summaries/template-summary.js';
import { WrittenSummaries } from '../summaries/written-summaries.js';
import type { SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { baseIdentity } from './language.js';
import { tasksOf } from './test-questions.js';

/** Titles that a summary is written from, where they fit into the model's context, and its most tokens. */
const titlesRead = 50;
const mostTokens = 64;
/** Users with a moment of their training events that is trained on; writing costs as much as answering a long prompt. */
const trainedMoments = 256;

/** What a system that reads the summaries is trained and validated with, however many users are asked later. */
export const writtenFor = { validatedUsers, trainedMoments };
/** Answers that grow at once. */
const rows = 8;

/** Where the written ones lie in the run folder. */
const part = 'summaries';

/** The summaries that a system reads; undefined for one that reads none. */
export async function summariesOf(workspace: Workspace, { reading }: SystemSpec): Promise<Summaries | undefined> {
  if (reading.summary === undefined) return undefined;
  const corpus = await workspace.corpus();
  if (reading.summary === 'template') return templateSummaries(corpus);
  const { run, seed } = workspace;
  run.need('summaries', 'adapt');
  const written = await WrittenSummaries.open(fileOf(workspace), trainingMoments(corpus, seed));
  const missing = toldMoments(workspace, corpus).filter((moment) => !written.has(moment)).length;
  if (missing > 0) throw run.damaged(part, 'adapt', `${run.path(part)} lacks ${missing} of its summaries`);
  return written;
}

/** The texts follow from the base model and the data alone, so that a larger sample of users adds to them. */
const fileOf = (workspace: Workspace): string =>
  workspace.run.path(part, `${baseIdentity(workspace).replace(/\W+/g, '-')}.jsonl`);

/**
 * Has the base model write a summary of the last titles, or of those that fit into its context, greedily: of every test user of the
 * sample as they are before the test item, of the users that are validated on, and of some users at a moment of their training events.
 * What was written is kept when it is stopped.
 */
export async function writeSummaries(workspace: Workspace): Promise<StageRecord> {
  const { run, seed, signal } = workspace;
  const corpus = await workspace.corpus();
  const users = sampleSize(run.settings);
  const key = { language: baseIdentity(workspace), seed, users, ...writtenFor };
  const work = async (): Promise<{ summaries: number; titlesRead: number; mostTokens: number }> => {
    const progress = workspace.output.progress('summaries', 'the model writes summaries');
    await mkdir(run.path(part), { recursive: true });
    const summaries = await WrittenSummaries.open(fileOf(workspace));
    const wanted = toldMoments(workspace, corpus).filter((moment) => !summaries.has(moment));
    const began = performance.now();
    let done = 0;
    const model = await LanguageModel.open(run.path('language'), workspace.runtime);
    try {
      const prompts = new Prompts(model.tokenizer, corpus.titles);
      const room = model.config.contextLength - mostTokens;
      const scheduler = model.scheduler({ rows });
      const waiting = wanted.values();
      const writer = async (): Promise<void> => {
        for (const moment of waiting) {
          signal.throwIfAborted();
          if (summaries.has(moment)) continue;
          const promptIds = prompts.withWhatFits(lastTitles(corpus, moment), summaryQuestion, room);
          const { text } = scheduler.generate({ promptIds, maxNewTokens: mostTokens, signal });
          await summaries.add(moment, (await text).replace(/\s+/g, ' ').trim());
          const seconds = (performance.now() - began) / 1000;
          progress.update({
            fraction: ++done / wanted.length,
            secondsLeft: (seconds / done) * (wanted.length - done),
            detail: `${done}/${wanted.length} users`,
          });
        }
      };
      // All have stopped before the model goes, also where one of them failed.
      const ends = await Promise.allSettled(Array.from({ length: rows }, writer));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    } finally {
      await model.dispose();
    }
    progress.done(`${done} summaries`);
    return { summaries: done, titlesRead, mostTokens };
  };
  return run.stage('summaries', key, work, { leaves: [part] });
}

/** Whom the summaries are of, and as of when. */
function toldMoments({ run, seed }: Workspace, corpus: Corpus): Moment[] {
  const tested = tasksOf(corpus).flatMap((task) => sampledCases(task, sampleSize(run.settings), seed));
  return [
    ...tested.map(({ user, from, to }) => ({ user, end: to - from })),
    ...validationMoments(corpus, seed, validatedUsers),
    ...trainingMoments(corpus, seed),
  ];
}

function lastTitles({ log }: Corpus, { user, end }: Moment): Int32Array {
  const start = log.offsets[user];
  return log.items.subarray(start + Math.max(0, end - titlesRead), start + end);
}

/** A moment each of some users: what came next is a training event. */
function trainingMoments({ train }: Corpus, seed: number): Moment[] {
  const random = Random.of(seed, 'summaries');
  const length = (user: number): number => train.offsets[user + 1] - train.offsets[user];
  return random
    .shuffle(train.users.map((_, user) => user).filter((user) => length(user) > 1))
    .slice(0, trainedMoments)
    .map((user) => ({ user, end: 1 + random.integer(length(user) - 1) }));
}
