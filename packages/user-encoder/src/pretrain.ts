import type { EventColumns } from '@user-llm/event-tokenizer';
import { adam, averaged, averageSlot, checkpointClock, Program, Random, Trainer, type Weights } from '@user-llm/onnx-autograd';
import { BatchPlan, type WindowBatch } from './batches.js';
import type { Span } from './span.js';
import type { EncoderConfig } from './config.js';
import { PretrainCheckpointError, TrainingDataError } from './errors.js';
import { bagSizes } from './event-feeds.js';
import { itemVectorsOf, withItemVectors, type ItemVectors } from './item-vectors.js';
import { labelTable } from './heads.js';
import { labelDefinition } from './label-tower.js';
import { rateFactor } from './learning-rate.js';
import { lossName, pretrainingDefinition } from './model.js';
import { labelsOfItems } from './objectives/dual-encoder.js';
import { nextEvent } from './objectives/next-event.js';
import type { BoundObjective, ItemHead, Objective, ObjectiveRun, TrainingBatch } from './objectives/objective.js';
import { readWith } from './objectives/rows.js';
import { fingerprint, resumeRun, saveRun, tryPlace, type RunState } from './pretrain-checkpoint.js';
import { averageDecay, checkObjective, checkOptions, lastStep, type PretrainOptions } from './pretrain-options.js';
import type { PretrainProgress } from './pretrain-run.js';
import { Sequences } from './sequences.js';
import {
  endsImproving,
  isBetter,
  thinned,
  type StopReason,
  type TrainingRecord,
  type ValidationPoint,
} from './training-record.js';
import { Validation, type ValidationResult } from './validation.js';

/** Trains; returns the weights to keep and the record. */
export async function pretrain(
  {
    config,
    weights,
    hash,
    training: before,
  }: { config: EncoderConfig; weights: Weights; hash: string; training: TrainingRecord | null },
  events: EventColumns,
  options: PretrainOptions,
  report: (progress: PretrainProgress) => void,
): Promise<{ weights: Weights; training: TrainingRecord }> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const { objective = nextEvent(), batch = 24, checkpoint, itemTable = 'whole' } = options;
  checkObjective(objective, config.attention === 'bidirectional' ? 'bidirectional' : 'causal', options);
  const holdsOut = options.validation !== 'none' && objective.itemHead !== 'none';
  const spans = trainingSpans(events, holdsOut);
  const log = { config, events, bags: bagSizes(config.fields, events) };
  const objectiveRun = { ...log, spans, itemTable, batch, read: readWith(log) };
  const bound = objective.bind(objectiveRun);
  const { repeats = 'allowed' } = bound;
  const validation = holdsOut ? new Validation(config, events, repeats, options.validationUsers ?? 4000) : null;
  const plan = new BatchPlan(spans, config.context, batch, config.seed);
  if (plan.stepsPerEpoch === 0)
    throw new TrainingDataError(
      events.users.length,
      events.offsets[events.users.length],
      validation ? 'no user has three events or more (the last is kept for validation)' : 'no user has two events or more',
    );
  const steps = lastStep(options, plan.stepsPerEpoch);
  if (checkpoint) await tryPlace(checkpoint.file);
  const validateEvery = options.validateEvery ?? Math.max(plan.stepsPerEpoch, 4 * (validation?.batches ?? 0));
  const definition = pretrainingDefinition(config, bound, objective.itemHead, itemTable);
  const parts = Object.keys(definition.build({ training: true }).outputs).filter((name) => name.startsWith(lossName('')));
  const rate = { factor: 1 };
  const began = performance.now();
  const itemVectors = itemVectorsOf(options.itemVectors, config, weights);
  const start = itemVectors === 'co-occurrence' ? withItemVectors(config, weights, events, spans) : weights;
  const startSeconds = (performance.now() - began) / 1000;
  const trainer = await Trainer.create(definition, {
    minimize: 'loss',
    optimizer: optimizer(options),
    schedule: () => rate.factor,
    seed: config.seed,
    weights: start,
    trainable: (name) => name !== `heads.${labelTable}`,
    metrics: parts,
    threads: options.threads,
  });
  try {
    const run = checkpoint && {
      file: checkpoint.file,
      fingerprint: fingerprint(events, {
        hash,
        ...decisive(options, objective, steps),
        itemVectors,
        repeats,
        batch,
        validation: validation?.users ?? null,
        validateEvery,
      }),
    };
    const state = (run && (await resumeRun(run.file, trainer, run.fingerprint))) ?? freshState(startSeconds);
    const context: RunContext = {
      options,
      plan,
      steps,
      validateEvery,
      validation,
      trainer,
      state,
      bound,
      rate,
      itemHead: objective.itemHead,
      batchAt: batches(plan, new Sequences(events, spans, options.augmentation ?? {}), config.seed),
      tell(progress) {
        options.onProgress?.(progress);
        report(progress);
      },
    };
    const stopped = await loop({ ...context, save: async () => run && saveRun(run.file, trainer, state, run.fingerprint) });
    // Embeddings alone were trained: an item head of an earlier run stays.
    const head =
      objective.itemHead === 'none'
        ? { itemHead: before?.itemHead ?? 'none', labelTower: before?.labelTower, repeats: before?.repeats }
        : { itemHead: objective.itemHead, labelTower: bound.labelTower, repeats };
    const trained = (validation && state.best?.weights) || (await finalWeights(context));
    const labels = objective.itemHead === 'none' ? await earlierLabels(objectiveRun, before, [weights, trained], options) : [];
    return {
      weights: new Map([...trained, ...labels]),
      training: record(context, stopped, { ...head, itemVectors }),
    };
  } finally {
    await trainer.dispose();
  }
}

function optimizer(options: PretrainOptions): Parameters<typeof averaged>[0] {
  const inner = adam({ learningRate: options.learningRate ?? 1e-3, beta2: 0.98 });
  const decay = averageDecay(options);
  return decay === null ? inner : averaged(inner, { decay });
}

/** The options that decide a run's numbers: a checkpoint belongs to them. */
function decisive(options: PretrainOptions, objective: Objective, steps: number | null): Record<string, unknown> {
  const { learningRate = 1e-3, schedule = 'constant', augmentation = {}, seconds } = options;
  return {
    objective,
    learningRate,
    averaging: averageDecay(options),
    augmentation,
    itemTable: options.itemTable ?? 'whole',
    // A schedule runs towards the end; without one a run may be made longer.
    schedule: schedule === 'constant' ? null : { schedule, steps, seconds },
  };
}

const freshState = (seconds: number): RunState => ({ seconds, losses: [], validation: [], best: null });

interface RunContext {
  readonly options: PretrainOptions;
  readonly plan: BatchPlan;
  /** Where the run ends; null when only a time ends it. */
  readonly steps: number | null;
  readonly validateEvery: number;
  readonly validation: Validation | null;
  readonly trainer: Trainer;
  readonly state: RunState;
  readonly bound: BoundObjective;
  /** What the trainer multiplies the learning rate with. */
  readonly rate: { factor: number };
  readonly itemHead: ItemHead;
  readonly batchAt: (step: number) => TrainingBatch & { readonly targets: number };
  readonly tell: (progress: PretrainProgress) => void;
}

/** The batch of every step. */
const batches =
  (plan: BatchPlan, sequences: Sequences, seed: number): RunContext['batchAt'] =>
  (step) => {
    const drawn = plan.at(step);
    const changes = Random.of(seed, 'augmentation', step);
    return {
      step,
      length: drawn.length,
      targets: targetsOf(drawn),
      sequences: drawn.windows.map((window) => window && sequences.of(window, changes)),
      random: (purpose) => Random.of(seed, purpose, step),
    };
  };

/** When nothing else is said. Steps take long with many items. */
const checkpointTimes = { everySteps: 500, everySeconds: 300 };

/** Steps, validations and checkpoints until the run ends; an abort leaves a checkpoint. */
async function loop({ save, ...run }: RunContext & { save: () => Promise<void> }): Promise<StopReason> {
  const { options, plan, steps, trainer, state, tell } = run;
  const clock = stopwatch(state.seconds);
  const whenDue = checkpointClock(options.checkpoint, checkpointTimes);
  let unsaved: PretrainCheckpointError | undefined;
  const trySaving = async (): Promise<void> => void (unsaved = await errorOf(save()));
  let rate = 0;
  try {
    while (true) {
      // Before the next step, so that a run resumed between a step and its validation makes up for it.
      if (trainer.steps > 0 && trainer.steps % run.validateEvery === 0) await validate(run, clock);
      const stopped = stopReason(run, clock());
      if (stopped) {
        await validate(run, clock);
        state.seconds = clock();
        await trySaving();
        tell({ kind: 'end', step: trainer.steps, seconds: state.seconds, stopped, ...(unsaved && { unsaved }) });
        return stopped;
      }
      options.signal?.throwIfAborted();
      const before = performance.now();
      const batch = run.batchAt(trainer.steps + 1);
      run.rate.factor = rateFactor(options.schedule ?? 'constant', shareDone(run, clock()));
      const { step, loss, metrics, learningRate } = await trainer.step(run.bound.feeds(batch));
      state.losses.push({ step, loss });
      state.seconds = clock();
      const perSecond = (1000 * batch.targets) / (performance.now() - before);
      // The first steps compile the graphs.
      rate = rate === 0 ? perSecond : 0.9 * rate + 0.1 * perSecond;
      const losses = Object.fromEntries(
        Object.entries(metrics).flatMap(([name, value]) =>
          name.startsWith(lossName('')) ? [[name.slice(lossName('').length), value]] : [],
        ),
      );
      tell({
        kind: 'step',
        step,
        steps,
        epoch: step / plan.stepsPerEpoch,
        loss,
        losses,
        learningRate,
        eventsPerSecond: rate,
        secondsLeft: timeLeft(run, state.seconds),
        ...(unsaved && { unsaved }),
      });
      await whenDue(step, trySaving);
    }
  } catch (error) {
    if (options.signal?.aborted) await save();
    throw error;
  }
}

/** Why a checkpoint could not be written: what was trained is worth more than that, and the next one may find room. */
async function errorOf(saving: Promise<void>): Promise<PretrainCheckpointError | undefined> {
  try {
    await saving;
    return undefined;
  } catch (error) {
    if (PretrainCheckpointError.isInstance(error)) return error;
    throw error;
  }
}

/** How much of the run will be done after the next step, 0 to 1. */
function shareDone({ steps, options, trainer }: RunContext, seconds: number): number {
  const bySteps = steps === null ? 0 : (trainer.steps + 1) / steps;
  const byTime = options.seconds === undefined ? 0 : seconds / options.seconds;
  return Math.min(1, Math.max(bySteps, byTime));
}

async function validate(run: RunContext, clock: () => number): Promise<void> {
  const { validation, state, trainer, tell } = run;
  if (!validation || validation.users === 0 || state.validation.at(-1)?.step === trainer.steps) return;
  const own = await validated(run, validation, undefined);
  const average = averageOf(run);
  const ofAverage = average && (await validated(run, validation, average));
  const averageWins = ofAverage !== undefined && isBetter(ofAverage.result, own.result);
  const better = averageWins ? ofAverage : own;
  const best = isBetter(better.result, bestPoint(state));
  const point = {
    step: trainer.steps,
    seconds: clock(),
    ...better.result,
    ...(average ? { averaged: averageWins } : {}),
  };
  state.validation.push(point);
  if (best) {
    const weights = new Map([...(averageWins ? average! : trainer.weights()), ...better.derived]);
    state.best = { step: trainer.steps, weights };
  }
  tell({ kind: 'validation', ...point, best });
}

/** The validation whose weights are kept. */
const bestPoint = ({ validation, best }: RunState): ValidationPoint | null =>
  validation.find(({ step }) => step === best?.step) ?? null;

/** Validates the trainer's weights, or others in their place. */
async function validated(
  run: RunContext,
  validation: Validation,
  weights: Weights | undefined,
): Promise<{ result: ValidationResult; derived: Weights }> {
  const derived = await derivedWeights(run, weights);
  const used = new Map([...(weights ?? []), ...derived]);
  const result = await validation.run(async (feeds) => {
    run.options.signal?.throwIfAborted();
    return (await run.trainer.evaluate(feeds, ['scores'], { weights: used })).scores;
  });
  return { result, derived };
}

async function derivedWeights({ bound, trainer, itemHead }: RunContext, weights: Weights | undefined): Promise<Weights> {
  if (!bound.derived || itemHead !== 'labels') return new Map();
  return bound.derived(async (feeds, output) => (await trainer.evaluate(feeds, [output], { weights }))[output]);
}

/** The moving average of the weights, where one is kept. */
const averageOf = ({ options, trainer }: RunContext): Weights | undefined =>
  averageDecay(options) === null || trainer.steps === 0 ? undefined : trainer.weights({ slot: averageSlot });

/** What a run without validation keeps. */
async function finalWeights(run: RunContext): Promise<Weights> {
  const weights = averageOf(run);
  return new Map([...(weights ?? run.trainer.weights()), ...(await derivedWeights(run, weights))]);
}

/** The labels of items that score them since an earlier run: they are made of embeddings that were trained on. */
async function earlierLabels(
  run: ObjectiveRun,
  before: TrainingRecord | null,
  [own, trained]: readonly [Weights, Weights],
  { threads }: PretrainOptions,
): Promise<Weights> {
  const { itemHead, labelTower } = before ?? {};
  if (itemHead !== 'labels' || !labelTower) return new Map();
  const weights = new Map([...own, ...trained]);
  const program = await Program.create(labelDefinition(run.config, labelTower), { weights, threads });
  try {
    return await labelsOfItems(run, labelTower, async (feeds) => (await program.run(feeds)).labels);
  } finally {
    await program.dispose();
  }
}

function stopReason({ steps, options, trainer, state }: RunContext, seconds: number): StopReason | undefined {
  if (steps !== null && trainer.steps >= steps) return 'steps';
  if (options.seconds !== undefined && seconds >= options.seconds) return 'seconds';
  const best = bestPoint(state);
  const since = best ? state.validation.length - 1 - state.validation.indexOf(best) : 0;
  return options.patience !== undefined && since >= options.patience ? 'patience' : undefined;
}

function timeLeft({ steps, options, trainer }: RunContext, seconds: number): number | null {
  const done = trainer.steps;
  const bySteps = steps === null || done < 3 ? null : ((steps - done) * seconds) / done;
  const byTime = options.seconds === undefined ? null : Math.max(0, options.seconds - seconds);
  return bySteps === null ? byTime : byTime === null ? bySteps : Math.min(bySteps, byTime);
}

function record(
  { plan, trainer, state }: RunContext,
  stopped: StopReason,
  head: Pick<TrainingRecord, 'itemHead' | 'labelTower' | 'repeats'> & { readonly itemVectors: ItemVectors },
): TrainingRecord {
  const epochs = trainer.steps / plan.stepsPerEpoch;
  return {
    steps: trainer.steps,
    epochs,
    seconds: state.seconds,
    eventsPerSecond: (epochs * plan.targetsPerEpoch) / state.seconds,
    stopped,
    itemHead: head.itemHead,
    ...(head.labelTower ? { labelTower: head.labelTower } : {}),
    ...(head.repeats ? { repeats: head.repeats } : {}),
    itemVectors: head.itemVectors,
    losses: thinned(state.losses),
    validation: state.validation,
    best: bestPoint(state),
    stillImproving: stopped !== 'patience' && endsImproving(state.validation),
  };
}

/** Seconds since it was made, plus those of earlier runs. */
function stopwatch(before: number): () => number {
  const start = performance.now();
  return () => before + (performance.now() - start) / 1000;
}

function trainingSpans(events: EventColumns, holdOut: boolean): Span[] {
  return events.users.map((_, user) => {
    const start = events.offsets[user];
    return { start, end: Math.max(start, events.offsets[user + 1] - (holdOut ? 1 : 0)) };
  });
}

const targetsOf = ({ windows }: WindowBatch): number =>
  windows.reduce((sum, window) => sum + (window ? window.end - window.start - 1 : 0), 0);
