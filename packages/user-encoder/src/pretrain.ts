import type { EventColumns } from '@user-llm/event-tokenizer';
import { adam, Trainer, type HostTensor, type Weights } from '@user-llm/onnx-autograd';
import { BatchPlan, type Span, type WindowBatch } from './batches.js';
import type { EncoderConfig } from './config.js';
import { EncoderOptionError, TrainingDataError } from './errors.js';
import { bagSizes, eventFeeds, targetPrefix, type BagSizes } from './event-feeds.js';
import { lossName, pretrainingDefinition } from './model.js';
import { fieldWeights, nextEvent, type Objective } from './objective.js';
import { fingerprint, resumeRun, saveRun, type RunState } from './pretrain-checkpoint.js';
import type { PretrainProgress } from './pretrain-run.js';
import { bestOf, endsImproving, isBetter, thinned, type StopReason, type TrainingRecord } from './training-record.js';
import { Validation } from './validation.js';
import { windowFeeds } from './window-feeds.js';

export interface PretrainOptions {
  /** Default `nextEvent()`. */
  readonly objective?: Objective;
  /** The run ends at the first of these that is reached; 20 epochs when none is given. */
  readonly epochs?: number;
  readonly steps?: number;
  readonly seconds?: number;
  /** Windows in a batch. Small batches learn better. Default 24. */
  readonly batch?: number;
  /** Of Adam. Default 1e-3. */
  readonly learningRate?: number;
  /**
   * `last` (default): each user's last event is held out of training and predicted now and then; the weights that predict it best are
   * kept. Leave the events of a test out before you give the events. `none`: all events are trained on, the last weights are kept.
   */
  readonly validation?: 'last' | 'none';
  /** Steps between validations. Default: an epoch, or more where validating would take a large share of the time. */
  readonly validateEvery?: number;
  /** At most so many users are validated. Default 4,000. */
  readonly validationUsers?: number;
  /** Stop after so many validations without a better one. Default: never. */
  readonly patience?: number;
  readonly signal?: AbortSignal;
  /** A run that finds its own checkpoint goes on from it. Written every so many steps (default 500), at the end, and when the signal aborts. */
  readonly checkpoint?: { readonly file: string; readonly everySteps?: number };
  readonly onProgress?: (progress: PretrainProgress) => void;
  /** Threads of the computation; the machine's cores by default. */
  readonly threads?: number;
}

const known: readonly (keyof PretrainOptions)[] = [
  'objective',
  'epochs',
  'steps',
  'seconds',
  'batch',
  'learningRate',
  'validation',
  'validateEvery',
  'validationUsers',
  'patience',
  'signal',
  'checkpoint',
  'onProgress',
  'threads',
];

function checkOptions(options: PretrainOptions): void {
  for (const name of Object.keys(options))
    if (!(known as readonly string[]).includes(name))
      throw new EncoderOptionError(name, `there is no such option; there are ${known.join(', ')}`);
  const whole = ['steps', 'batch', 'validateEvery', 'validationUsers', 'patience'] as const;
  for (const name of whole) {
    const value = options[name];
    if (value !== undefined && (!Number.isInteger(value) || value < 1))
      throw new EncoderOptionError(name, `${value} is not a positive whole number`);
  }
  for (const name of ['epochs', 'seconds', 'learningRate'] as const) {
    const value = options[name];
    if (value !== undefined && !(value > 0)) throw new EncoderOptionError(name, `${value} is not a positive number`);
  }
}

/** Trains; returns the weights to keep and the record. */
export async function pretrain(
  { config, weights, hash }: { config: EncoderConfig; weights: Weights; hash: string },
  events: EventColumns,
  options: PretrainOptions,
  report: (progress: PretrainProgress) => void,
): Promise<{ weights: Weights; training: TrainingRecord }> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const { objective = nextEvent(), batch = 24, learningRate = 1e-3, checkpoint } = options;
  const validation = options.validation === 'none' ? null : new Validation(config, events, options.validationUsers ?? 4000);
  const plan = new BatchPlan(trainingSpans(events, validation !== null), config.context, batch, config.seed);
  if (plan.stepsPerEpoch === 0)
    throw new TrainingDataError(
      events.users.length,
      events.offsets[events.users.length],
      validation ? 'no user has three events or more (the last is kept for validation)' : 'no user has two events or more',
    );
  const timed = options.seconds !== undefined;
  const steps =
    options.steps ?? (timed && options.epochs === undefined ? null : Math.ceil((options.epochs ?? 20) * plan.stepsPerEpoch));
  const validateEvery = options.validateEvery ?? Math.max(plan.stepsPerEpoch, 4 * (validation?.batches ?? 0));
  const predicted = fieldWeights(objective, config.fields).map(({ field }) => field);
  const trainer = await Trainer.create(pretrainingDefinition(config, objective), {
    minimize: 'loss',
    optimizer: adam({ learningRate, beta2: 0.98 }),
    seed: config.seed,
    weights,
    metrics: predicted.map(({ name }) => lossName(name)),
    threads: options.threads,
  });
  try {
    const run = checkpoint && {
      file: checkpoint.file,
      fingerprint: fingerprint(events, {
        hash,
        objective,
        learningRate,
        batch,
        validation: validation?.users ?? null,
        validateEvery,
      }),
    };
    const state = (run && (await resumeRun(run.file, trainer, run.fingerprint))) ?? freshState();
    const tell = (progress: PretrainProgress): void => {
      options.onProgress?.(progress);
      report(progress);
    };
    const context = { config, events, options, plan, steps, validateEvery, predicted, validation, trainer, state, tell };
    const stopped = await loop({ ...context, save: async () => run && saveRun(run.file, trainer, state, run.fingerprint) });
    return { weights: (validation && state.best) || trainer.weights(), training: record(context, stopped) };
  } finally {
    await trainer.dispose();
  }
}

const freshState = (): RunState => ({ seconds: 0, losses: [], validation: [], best: null });

interface RunContext {
  readonly config: EncoderConfig;
  readonly events: EventColumns;
  readonly options: PretrainOptions;
  readonly plan: BatchPlan;
  /** Where the run ends; null when only a time ends it. */
  readonly steps: number | null;
  readonly validateEvery: number;
  readonly predicted: EncoderConfig['fields'];
  readonly validation: Validation | null;
  readonly trainer: Trainer;
  readonly state: RunState;
  readonly tell: (progress: PretrainProgress) => void;
}

/** Steps, validations and checkpoints until the run ends; an abort leaves a checkpoint. */
async function loop({ save, ...run }: RunContext & { save: () => Promise<void> }): Promise<StopReason> {
  const { config, events, options, plan, steps, predicted, trainer, state, tell } = run;
  const clock = stopwatch(state.seconds);
  const bags = bagSizes(config.fields, events);
  let rate = 0;
  try {
    while (true) {
      // Before the next step, so that a run resumed between a step and its validation makes up for it.
      if (trainer.steps > 0 && trainer.steps % run.validateEvery === 0) await validate(run, clock);
      const stopped = stopReason(run, clock());
      if (stopped) {
        await validate(run, clock);
        state.seconds = clock();
        await save();
        tell({ kind: 'end', step: trainer.steps, seconds: state.seconds, stopped });
        return stopped;
      }
      options.signal?.throwIfAborted();
      const before = performance.now();
      const drawn = plan.at(trainer.steps + 1);
      const { step, loss, metrics } = await trainer.step(trainingFeeds(config, predicted, events, drawn, bags));
      state.losses.push({ step, loss });
      state.seconds = clock();
      const perSecond = (1000 * targetsOf(drawn)) / (performance.now() - before);
      // The first steps compile the graphs.
      rate = rate === 0 ? perSecond : 0.9 * rate + 0.1 * perSecond;
      const losses = Object.fromEntries(predicted.map(({ name }) => [name, metrics[lossName(name)]]));
      const secondsLeft = timeLeft(run, state.seconds);
      tell({ kind: 'step', step, steps, epoch: step / plan.stepsPerEpoch, loss, losses, eventsPerSecond: rate, secondsLeft });
      if (step % (options.checkpoint?.everySteps ?? 500) === 0) await save();
    }
  } catch (error) {
    if (options.signal?.aborted) await save();
    throw error;
  }
}

async function validate({ validation, state, trainer, options, tell }: RunContext, clock: () => number): Promise<void> {
  if (!validation || validation.users === 0 || state.validation.at(-1)?.step === trainer.steps) return;
  const found = await validation.run(async (feeds) => {
    options.signal?.throwIfAborted();
    return (await trainer.evaluate(feeds, ['scores'])).scores;
  });
  const best = isBetter(found, bestOf(state.validation));
  const point = { step: trainer.steps, seconds: clock(), ...found };
  state.validation.push(point);
  if (best) state.best = trainer.weights();
  tell({ kind: 'validation', ...point, best });
}

function stopReason({ steps, options, trainer, state }: RunContext, seconds: number): StopReason | undefined {
  if (steps !== null && trainer.steps >= steps) return 'steps';
  if (options.seconds !== undefined && seconds >= options.seconds) return 'seconds';
  const best = bestOf(state.validation);
  const since = best ? state.validation.length - 1 - state.validation.indexOf(best) : 0;
  return options.patience !== undefined && since >= options.patience ? 'patience' : undefined;
}

function timeLeft({ steps, options, trainer }: RunContext, seconds: number): number | null {
  const done = trainer.steps;
  const bySteps = steps === null || done < 3 ? null : ((steps - done) * seconds) / done;
  const byTime = options.seconds === undefined ? null : Math.max(0, options.seconds - seconds);
  return bySteps === null ? byTime : byTime === null ? bySteps : Math.min(bySteps, byTime);
}

function record({ plan, trainer, state }: RunContext, stopped: StopReason): TrainingRecord {
  const epochs = trainer.steps / plan.stepsPerEpoch;
  return {
    steps: trainer.steps,
    epochs,
    seconds: state.seconds,
    eventsPerSecond: (epochs * plan.targetsPerEpoch) / state.seconds,
    stopped,
    losses: thinned(state.losses),
    validation: state.validation,
    best: bestOf(state.validation),
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

/** Inputs are a window's events but the last, targets the same but the first. */
function trainingFeeds(
  config: EncoderConfig,
  predicted: EncoderConfig['fields'],
  events: EventColumns,
  { windows, length }: WindowBatch,
  bags: BagSizes,
): Record<string, HostTensor> {
  return {
    ...windowFeeds(
      config,
      events,
      windows.map((window) => window && { start: window.start, end: window.end - 1 }),
      length,
      bags,
    ),
    ...eventFeeds(
      predicted,
      events,
      windows.map((window) => window && { start: window.start + 1, end: window.end }),
      length,
      bags,
      targetPrefix,
    ),
  };
}
