import { checkLabel, checkRanking } from './answer.js';
import { Answers } from './answers.js';
import { InvalidOptionError, InvalidResultError, SystemFailedError } from './errors.js';
import { UNKNOWN_ITEM } from './interaction-log.js';
import { checkFinished } from './outcome.js';
import type { Outcome } from './outcome.js';
import { historyOf, metItems, whoAsks } from './question.js';
import { denseRanks, listRank, MISS } from './rank.js';
import { permutation } from './random.js';
import { Report } from './report.js';
import type { SplitCase } from './split.js';
import type { Cost, DoesNotFit, RankRequest, RankResult, System, TrainingData } from './system.js';
import type { FavouriteGenreTask, NextItemTask, Task } from './task.js';

/** What {@link evaluate} reports while it works. */
export interface EvaluationProgress {
  readonly system: string;
  readonly task: Task['name'];
  readonly stage: 'fit' | 'ask';
  /** users asked so far, and in all */
  readonly done: number;
  readonly total: number;
}

/** Options of {@link evaluate}. */
export interface EvaluateOptions {
  readonly task: Task | readonly Task[];
  readonly systems: readonly System[];
  /** of the sample, the intervals and the tests */
  readonly seed: number;
  /** how deep a ranking goes: what stands below counts as missed, for every system alike. Default 100. */
  readonly depth?: number;
  /** slow systems rank the same seeded sample of the test users; the others rank all, and are reported on the sample too */
  readonly sample?: { readonly users: number; readonly systems: readonly string[] | ((system: System) => boolean) };
  /**
   * outcomes of an earlier call on the same data: their systems are not asked again, and all stand in one report. Of one that `onPart` was
   * given, or of a smaller sample, the users that it lacks are asked.
   */
  readonly known?: readonly Outcome[];
  /** called, and awaited, when a system has answered everything: keep the outcome, and pass it as `known` after an interruption */
  readonly onOutcome?: (outcome: Outcome) => unknown;
  /** called every half minute, and when the evaluation ends before its time, with what the system under way has answered so far */
  readonly onPart?: (outcome: Outcome) => unknown;
  readonly onProgress?: (progress: EvaluationProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Puts a task to systems and compares their answers, user by user.
 *
 * Every item is ranked, always. A system that returns dense scores is asked once per user, one that returns a list twice: without the
 * history's items (filtered) and with them (unfiltered); latency and cost are those of the first, filtered request. A system that can
 * do several of the tasks is asked all of them; one that can do none is an error.
 *
 * @throws InvalidOptionError (no task, a name given twice, a system that can do none of the tasks, a depth below 10, outcomes of other
 *   data, an interrupted one of a system that is not asked), SystemFailedError (with what the system threw as its `cause`), InvalidResultError (an answer that is no ranking or label),
 *   what `onOutcome` and `onProgress` throw, the signal's reason. Outcomes that `onOutcome` was given by then can be passed as `known`.
 */
export async function evaluate(options: EvaluateOptions): Promise<Report> {
  const { systems, seed, depth = 100, sample, known = [] } = options;
  const tasks = Array.isArray(options.task) ? (options.task as readonly Task[]) : [options.task as Task];
  check(tasks, systems, options);
  const wanted = sample?.systems;
  const isSampled = (system: System): boolean =>
    wanted === undefined ? false : typeof wanted === 'function' ? wanted(system) : wanted.includes(system.name);
  const outcomes: Outcome[] = known.filter((outcome) => !systems.some((system) => system.name === outcome.system));
  for (const system of systems) {
    let fitted: TrainingData | undefined;
    for (const task of tasks) {
      if (!canDo(system, task)) continue;
      const sampled = isSampled(system);
      const cases = sampled && sample ? sampledCases(task, sample.users, seed) : task.cases;
      const before = known.find((outcome) => isAnswerTo(outcome, system, task, depth, cases));
      if (before) {
        // The answers are what is known; what the system is compared as is said anew.
        outcomes.push({ ...before, kind: system.kind ?? 'system', sampled });
        continue;
      }
      const asking = { system, task, cases, depth, sampled, options };
      const begun = known.find((outcome) => isBeginningOf(outcome, system, task, depth, cases));
      let fitSeconds: number | undefined;
      if (system.fit && !(fitted && sameTraining(fitted, task.train))) {
        fitSeconds = await fit(asking);
        fitted = task.train;
      }
      const outcome = await ask(asking, fitSeconds ?? begun?.fitSeconds, begun);
      await options.onOutcome?.(outcome);
      outcomes.push(outcome);
    }
  }
  return Report.of(outcomes, tasks, { seed, depth });
}

interface Asking {
  readonly system: System;
  readonly task: Task;
  readonly cases: readonly SplitCase[];
  readonly depth: number;
  readonly sampled: boolean;
  readonly options: EvaluateOptions;
}

async function fit({ system, task, cases, options }: Asking): Promise<number> {
  options.signal?.throwIfAborted();
  options.onProgress?.({ system: system.name, task: task.name, stage: 'fit', done: 0, total: cases.length });
  const start = performance.now();
  try {
    await system.fit?.(task.train);
  } catch (error) {
    throw failed(system, 'fit', error, options.signal);
  }
  return (performance.now() - start) / 1000;
}

/** How often the answers so far are handed out. */
const secondsBetweenParts = 30;

async function ask(asking: Asking, fitSeconds: number | undefined, begun: Outcome | undefined): Promise<Outcome> {
  const { system, task, cases, depth, sampled, options } = asking;
  const { signal, onPart } = options;
  const answers = new Answers(begun);
  const itemIndex = new Map<string, number>(task.name === 'next-item' ? task.log.itemIds.map((id, i) => [id, i]) : []);
  const described = {
    system: system.name,
    kind: system.kind ?? 'system',
    task: task.name,
    taskHash: task.hash,
    depth,
    sampled,
    ...(fitSeconds === undefined ? {} : { fitSeconds }),
    ...(system.examplesSeen === undefined ? {} : { examplesSeen: system.examplesSeen }),
    ...(system.notes === undefined ? {} : { notes: system.notes }),
  } as const;
  let kept = answers.size;
  const keep = async (): Promise<void> => {
    const unfinished = answers.size < cases.length && ({ unfinished: true } as const);
    if (answers.size > kept) await onPart?.({ ...described, ...unfinished, ...answers.of(task, cases) });
    kept = answers.size;
  };
  let lastPart = performance.now();
  let lastPause = lastPart;
  try {
    for (const one of cases) {
      if (answers.has(one.user)) continue;
      signal?.throwIfAborted();
      const answer =
        task.name === 'next-item' ? await rankOnce(asking, task, one, itemIndex) : await classifyOnce(asking, task, one);
      if ('doesNotFit' in answer) {
        const doesNotFit = `${answer.doesNotFit} (at test user ${answers.size + 1} of ${cases.length})`;
        const users = cases.map(({ user }) => user);
        return { ...described, users, latencyMs: [], tokensPerRequest: null, flopsPerRequest: null, doesNotFit };
      }
      answers.add(one.user, answer);
      options.onProgress?.({ system: system.name, task: task.name, stage: 'ask', done: answers.size, total: cases.length });
      const now = performance.now();
      // counting baselines never wait for anything; progress bars and signals need the event loop
      if (now - lastPause > 50) {
        await new Promise((resolve) => setImmediate(resolve));
        lastPause = performance.now();
      }
      if (now - lastPart > 1000 * secondsBetweenParts) {
        await keep();
        lastPart = performance.now();
      }
    }
  } catch (error) {
    // What stopped it is told, whatever becomes of the answers.
    await keep().catch(() => undefined);
    throw error;
  }
  return { ...described, ...answers.of(task, cases) };
}

type Ranked = { filtered: number; unfiltered: number; ms: number; cost?: Cost };

async function rankOnce(
  asking: Asking,
  task: NextItemTask,
  one: SplitCase,
  itemIndex: ReadonlyMap<string, number>,
): Promise<Ranked | DoesNotFit> {
  const { system, depth, options } = asking;
  const { log } = task;
  const history = historyOf(task, one);
  const target = log.items[one.to];
  const met = metItems(history);
  const request = { ...whoAsks(task, one), history, depth, signal: options.signal };
  const rank = async (exclude: RankRequest['exclude']): Promise<{ answer: RankResult | DoesNotFit; ms: number }> => {
    const { answer, ms } = await timed(asking, 'rank', () =>
      (system.rank as NonNullable<System['rank']>)({ ...request, exclude }),
    );
    return { answer: checkRanking(system, answer, request.candidates) ?? { doesNotFit: 'does not fit' }, ms };
  };
  const { answer, ms } = await rank(met);
  if ('doesNotFit' in answer) return answer;
  if ('scores' in answer) {
    if (target === UNKNOWN_ITEM) return { filtered: MISS, unfiltered: MISS, ms, cost: answer.cost };
    const ranks = denseRanks(answer.scores, target, met);
    if (!ranks) throw new InvalidResultError(system.name, `returned a score that is not a number for user "${request.user}".`);
    return { filtered: within(ranks.filtered, depth), unfiltered: within(ranks.unfiltered, depth), ms, cost: answer.cost };
  }
  const filtered = listRank(indices(system, answer, itemIndex), target, met, depth);
  const nothing: RankRequest['exclude'] = new Set<number>();
  const second = await rank(nothing);
  if ('doesNotFit' in second.answer) return second.answer;
  if (!('items' in second.answer))
    throw new InvalidResultError(system.name, 'returned a list for one request and dense scores for the next; return one kind.');
  return {
    filtered,
    unfiltered: listRank(indices(system, second.answer, itemIndex), target, nothing, depth),
    ms,
    cost: answer.cost,
  };
}

async function classifyOnce(
  asking: Asking,
  task: FavouriteGenreTask,
  one: SplitCase,
): Promise<{ label: number; ms: number; cost?: Cost } | DoesNotFit> {
  const { system, options } = asking;
  const request = { ...whoAsks(task, one), history: historyOf(task, one), labels: task.labels, signal: options.signal };
  const { answer, ms } = await timed(asking, 'classify', () => (system.classify as NonNullable<System['classify']>)(request));
  const given = checkLabel(system, answer) ?? { doesNotFit: 'does not fit' };
  if ('doesNotFit' in given) return given;
  return { label: task.labels.indexOf(given.label), ms, cost: given.cost };
}

async function timed<T>(
  { system, options }: Asking,
  stage: 'rank' | 'classify',
  call: () => T | Promise<T>,
): Promise<{ answer: T; ms: number }> {
  const start = performance.now();
  try {
    const answer = await call();
    return { answer, ms: performance.now() - start };
  } catch (error) {
    throw failed(system, stage, error, options.signal);
  }
}

function failed(system: System, stage: 'fit' | 'rank' | 'classify', error: unknown, signal?: AbortSignal): unknown {
  // an interruption is not the system's failure: the caller gets its own reason back
  if (signal?.aborted) return signal.reason ?? error;
  // That of a blend's part says already whose answer it is.
  return error instanceof InvalidResultError ? error : new SystemFailedError(system.name, stage, error);
}

const within = (rank: number, depth: number): number => (rank < depth ? rank : MISS);

function indices(
  system: System,
  answer: RankResult & { items: readonly { id: string }[] },
  itemIndex: ReadonlyMap<string, number>,
): number[] {
  return answer.items.map((item: { readonly id?: string } | null) => {
    const index = itemIndex.get(item?.id as string);
    if (index === undefined)
      throw new InvalidResultError(
        system.name,
        `returned item "${item?.id}", which is no candidate; return ids of request.candidates.ids.`,
      );
    return index;
  });
}

const canDo = (system: System, task: Task): boolean => (task.name === 'next-item' ? system.rank : system.classify) !== undefined;

/** The cases of a sample: the same users for every task and every system of one seed, the first of a seeded order of all the log's users. */
export function sampledCases(task: Task, users: number, seed: number): readonly SplitCase[] {
  const byUser = new Map(task.cases.map((one) => [one.user, one]));
  const chosen: SplitCase[] = [];
  for (const user of permutation(task.log.users.length, seed)) {
    const one = byUser.get(user);
    if (one && chosen.length < users) chosen.push(one);
  }
  return chosen.sort((left, right) => left.user - right.user);
}

function sameTraining(left: TrainingData, right: TrainingData): boolean {
  return left.log === right.log && left.end.length === right.end.length && left.end.every((end, user) => end === right.end[user]);
}

const isOf = (outcome: Outcome, system: System, task: Task, depth: number): boolean =>
  outcome.system === system.name && outcome.task === task.name && outcome.taskHash === task.hash && outcome.depth === depth;

function isAnswerTo(outcome: Outcome, system: System, task: Task, depth: number, cases: readonly SplitCase[]): boolean {
  const { users } = outcome;
  return isOf(outcome, system, task, depth) && users.length === cases.length && cases.every(({ user }, i) => user === users[i]);
}

/** Whether an outcome has answers to some of the cases, and to nothing else. */
function isBeginningOf(outcome: Outcome, system: System, task: Task, depth: number, cases: readonly SplitCase[]): boolean {
  if (!isOf(outcome, system, task, depth) || outcome.doesNotFit !== undefined) return false;
  const asked = new Set(cases.map(({ user }) => user));
  return outcome.users.every((user) => asked.has(user));
}

function check(
  tasks: readonly Task[],
  systems: readonly System[],
  { depth = 100, sample, known = [], seed }: EvaluateOptions,
): void {
  if (!Number.isSafeInteger(seed)) throw new InvalidOptionError('seed', `must be an integer, got ${seed}.`);
  if (!(Number.isInteger(depth) && depth >= 10))
    throw new InvalidOptionError('depth', `must be an integer of 10 or more (recall@10 is reported), got ${depth}.`);
  if (tasks.length === 0) throw new InvalidOptionError('task', 'give at least one task.');
  if (new Set(tasks.map((task) => task.name)).size < tasks.length)
    throw new InvalidOptionError('task', 'each kind of task may stand once in a report.');
  if (sample && !(Number.isInteger(sample.users) && sample.users > 0))
    throw new InvalidOptionError('sample.users', `must be a positive integer, got ${sample.users}.`);
  if (sample) checkSampled(sample.systems, [...systems.map(({ name }) => name), ...known.map(({ system }) => system)]);
  const names = new Set<string>();
  for (const system of systems) {
    if (!system.name || names.has(system.name))
      throw new InvalidOptionError(
        'systems',
        `every system needs a name of its own, got "${system.name}"${system.name ? ' twice' : ''}.`,
      );
    names.add(system.name);
    if (!tasks.some((task) => canDo(system, task))) {
      throw new InvalidOptionError(
        'systems',
        `"${system.name}" has neither rank() for next-item nor classify() for favourite-genre, as the tasks need.`,
      );
    }
  }
  for (const outcome of known) {
    if (!names.has(outcome.system)) checkFinished('known', outcome);
    if (!names.has(outcome.system) && !tasks.some((task) => task.hash === outcome.taskHash && outcome.depth === depth)) {
      throw new InvalidOptionError(
        'known',
        `the outcome of "${outcome.system}" was made on other data or another depth; evaluate that system again.`,
      );
    }
  }
}

/** A name that no system has would leave the slow system that was meant to rank for everybody. */
function checkSampled(wanted: NonNullable<EvaluateOptions['sample']>['systems'], names: readonly string[]): void {
  if (typeof wanted === 'function') return;
  if (!Array.isArray(wanted))
    throw new InvalidOptionError('sample.systems', 'must be names of systems, or a function that is given one and says whether.');
  for (const name of wanted as readonly string[])
    if (!names.includes(name))
      throw new InvalidOptionError(
        'sample.systems',
        `there is no system "${name}"; there are ${[...new Set(names)].join(', ')}.`,
      );
}
