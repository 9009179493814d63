import { mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { Trainer, adamW, checkpointClock, readSafetensors, writeFileAtomically, writeSafetensors } from '@user-llm/onnx-autograd';
import type { Feeds, GraphDefinition, Optimizer, Outputs, Weights } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { difference, identityOf } from './run-identity.js';
import type { RunIdentity } from './run-identity.js';
import { TrainingLog } from './training-log.js';
import type { LogState } from './training-log.js';
import type { TrainingProgress, TrainingRecord, TrainingSettings, ValidationSchedule } from './training-options.js';
import { trainingDefaults } from './training-settings.js';
import type { Validated } from './validation.js';

/** One batch, ready to be fed: parts whose gradients are added up. */
export interface Batch {
  readonly parts: readonly Feeds[];
  readonly examples: number;
  readonly tokens: number;
}

/** What is trained, and on what. */
export interface TrainingTask {
  readonly definition: GraphDefinition<Outputs & { readonly loss: Outputs[string] }>;
  /** Weights to start from; others begin as their initialisers say. */
  readonly weights: Weights;
  readonly trainable: (name: string) => boolean;
  /** A factor on the learning rate of a parameter. */
  readonly rateOf?: (name: string) => number;
  readonly batch: (step: number, trainer: Trainer) => Promise<Batch | null>;
  readonly stepsPerEpoch?: number;
  /** How good the trainer's weights are on what is not trained on. */
  readonly validate?: (trainer: Trainer) => Promise<Validated>;
  /** A hash of the examples, where they are known beforehand. */
  readonly examples?: () => string;
  /** What a function that gives them says of itself. */
  readonly source?: () => string;
  /** How batches are cut into parts, where that changes numbers: most tokens of one, or as many as fit. */
  readonly parts?: number | 'as fit';
  /** What the record says of the options. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** How a task is run. */
/** What a crash may cost where nothing else is said: a checkpoint of a large model takes seconds. */
const checkpointTimes = { everySeconds: 300 };

type Options = TrainingSettings & { readonly validation?: ValidationSchedule };

/** Runs a training task within its budget, by settings that were checked. The weights are all of the graph's, those of the best validation where there was one. */
export async function train(
  task: TrainingTask,
  options: Options,
  emit: (progress: TrainingProgress) => void,
): Promise<{ weights: Weights; record: TrainingRecord }> {
  const log = new TrainingLog();
  const limit = stepLimit(task, options);
  const { seconds = Infinity, signal, checkpoint } = options;
  const { seed, warmup, clipNorm } = { ...trainingDefaults, ...options };
  if (limit === Infinity && seconds === Infinity)
    throw new AdaptationError('budget', 'give steps, epochs (with a list of examples) or seconds');
  // Now, not when there is something to lose.
  if (checkpoint !== undefined) await mkdir(path.dirname(checkpoint.file), { recursive: true });
  const identity = checkpoint && identityOf(task);
  const share = (step: number) => Math.max(step / limit, log.seconds / seconds);
  const schedule = (step: number) => {
    const done = Math.min(1, share(step));
    if (done < warmup) return done / warmup;
    return 0.5 * (1 + Math.cos((Math.PI * (done - warmup)) / (1 - warmup || 1)));
  };
  const trainer = await Trainer.create(task.definition, {
    minimize: 'loss',
    optimizer: optimizer(task, options),
    seed,
    weights: task.weights,
    trainable: task.trainable,
    schedule,
    // Texts and histories come in many lengths.
    shapes: 'dynamic',
    clipNorm,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.frozenWeights === undefined ? {} : { frozenWeights: options.frozenWeights }),
  });
  const trainedParameters = trainer.trainable.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  let best: { readonly step: number; readonly weights: Weights } | undefined;
  let writtenBest: number | undefined;
  let stoppedEarly = false;

  const save = async () => {
    if (checkpoint === undefined) return;
    // The trainer's file last: a crash in between leaves a log that is ahead, which is cut back when it is read.
    if (best !== undefined && best.step !== writtenBest)
      await writeSafetensors(`${checkpoint.file}.best`, best.weights, { step: String(best.step) });
    writtenBest = best?.step;
    await writeFileAtomically(`${checkpoint.file}.log`, [
      new TextEncoder().encode(JSON.stringify({ ...log.state(), run: identity })),
    ]);
    await trainer.saveCheckpoint(checkpoint.file);
  };
  /** What was trained is worth more than its checkpoint: a disk that is full now may have room at the next one. */
  let unsaved: Error | undefined;
  const trySaving = async () => {
    unsaved = await save().then(
      () => undefined,
      (error: Error) => error,
    );
  };
  const stopIfAborted = async (): Promise<void> => {
    if (!signal?.aborted) return;
    await save();
    signal.throwIfAborted();
  };
  /** Does what takes long and may end by the signal. */
  const savingWhenStopped = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      await stopIfAborted();
      throw error;
    }
  };
  const validate = async (): Promise<Validated | undefined> => {
    const found = await savingWhenStopped(async () => task.validate?.(trainer));
    if (found === undefined) return undefined;
    const early = share(log.step) < (options.validation?.keepFrom ?? 0);
    log.validation.push({ step: log.step, seconds: log.seconds, ...found, ...(early && { early }) });
    if (log.best === log.validation.at(-1)) best = { step: log.step, weights: trainer.weights({ trainableOnly: true }) };
    return found;
  };

  const nextBatch = () => savingWhenStopped(async () => task.batch(trainer.steps + 1, trainer));

  try {
    if (checkpoint !== undefined && (await exists(checkpoint.file))) {
      const { run, ...state } = await readLog(checkpoint.file);
      const other = run && difference(run, identity!);
      if (other !== undefined)
        throw new AdaptationError(
          'checkpoint',
          `${checkpoint.file} is of another run: ${other}; go on with the same, or name another file to start anew`,
        );
      await trainer.resume(checkpoint.file);
      log.restore(cutBack(state, trainer.steps, checkpoint.file));
      if (log.best !== undefined) {
        const { tensors, metadata } = await readSafetensors(`${checkpoint.file}.best`);
        // After a crash they may be of a step that the trainer has not come to, and those that were best before are gone.
        if (Number(metadata.step) === log.best.step) best = { step: log.best.step, weights: tensors };
        else log.forgetBest();
      }
      stoppedEarly = trainer.steps < limit && ranOutOfPatience(log, options.validation?.patience);
    }
    const due = validationClock(task, options, limit);
    // A signal may have stopped the validation of the last step.
    if (due(log) && log.step > 0 && log.step < limit && !stoppedEarly && log.validation.at(-1)?.step !== log.step) {
      await validate();
      stoppedEarly = ranOutOfPatience(log, options.validation?.patience);
    }
    const whenDue = checkpointClock(checkpoint, checkpointTimes);
    let compiled = false;
    while (trainer.steps < limit && !stoppedEarly) {
      await stopIfAborted();
      const start = log.seconds;
      // A step that would end after the budget is not begun; nor one after which there is no time for the last validation.
      if (start + log.stepSeconds + log.validationSeconds > seconds) break;
      const batch = await nextBatch();
      // A source that heeds the signal itself may end by it.
      if (batch === null) await stopIfAborted();
      if (batch === null) break;
      const result = await trainer.step(batch.parts.length === 1 ? batch.parts[0] : batch.parts);
      log.add(result.step, result.loss, batch.examples, batch.tokens);
      // The first step of all compiles the graph.
      const stepped = log.seconds;
      if (compiled) log.stepSeconds = log.stepSeconds === 0 ? stepped - start : 0.9 * log.stepSeconds + 0.1 * (stepped - start);
      compiled = true;
      const found = result.step < limit && due(log) ? await validate() : undefined;
      if (found !== undefined) log.validationSeconds = log.seconds - stepped;
      if (checkpoint !== undefined) await whenDue(result.step, trySaving);
      stoppedEarly = ranOutOfPatience(log, options.validation?.patience);
      const left = Math.min((limit - result.step) * (log.seconds / result.step), seconds - log.seconds);
      emit({
        step: result.step,
        loss: result.loss,
        ...(found === undefined ? {} : { validationLoss: found.loss }),
        ...(found?.accuracy === undefined ? {} : { validationAccuracy: found.accuracy }),
        ...log.pace,
        examplesSeen: log.examplesSeen,
        secondsLeft: stoppedEarly ? 0 : Math.max(0, left),
        ...(unsaved && { unsaved }),
      });
      await breathe();
    }
    if (log.validation.at(-1)?.step !== log.step) await validate();
    await trySaving();
    const weights = new Map([...trainer.weights(), ...(best?.weights ?? [])]);
    return {
      weights,
      record: {
        ...log.record({ bestStep: best?.step ?? log.step, stoppedEarly, trainedParameters, options: task.options }),
        ...(unsaved && { unsaved: unsaved.message }),
      },
    };
  } finally {
    await trainer.dispose();
  }
}

function stepLimit({ stepsPerEpoch }: TrainingTask, { steps = Infinity, epochs = Infinity }: Options): number {
  if (epochs !== Infinity && stepsPerEpoch === undefined)
    throw new AdaptationError('epochs', 'a function has no epochs; give steps or seconds');
  return Math.min(steps, stepsPerEpoch === undefined ? Infinity : Math.ceil(epochs * stepsPerEpoch));
}

function optimizer(task: TrainingTask, options: Options): Optimizer {
  const { learningRate, weightDecay } = { ...trainingDefaults, ...options };
  const base = adamW({ learningRate, weightDecay });
  const { rateOf } = task;
  if (rateOf === undefined) return base;
  return {
    ...base,
    kindOf: (name, shape) => `${base.kindOf!(name, shape)} ${rateOf(name)}`,
    update: (context) => base.update({ ...context, learningRate: context.learningRate.mul(rateOf(context.name)) }),
  };
}

/** Says when a validation is due, by steps or by time. */
function validationClock({ validate }: TrainingTask, options: Options, limit: number): (log: TrainingLog) => boolean {
  if (validate === undefined) return () => false;
  const { seconds } = options;
  const { everySteps, everySeconds } = options.validation ?? {};
  if (everySteps !== undefined || (everySeconds === undefined && seconds === undefined)) {
    const every = everySteps ?? Math.max(1, Math.round(limit / 10));
    return ({ step }) => step % every === 0;
  }
  const every = everySeconds ?? seconds! / 12;
  let next: number | undefined;
  return (log) => {
    next ??= (Math.floor(log.seconds / every) + 1) * every;
    if (log.seconds < next) return false;
    next = (Math.floor(log.seconds / every) + 1) * every;
    return true;
  };
}

function ranOutOfPatience({ validation, best }: TrainingLog, patience = Infinity): boolean {
  if (best === undefined) return false;
  return validation.filter(({ step }) => step > best.step).length >= patience;
}

const exists = async (file: string): Promise<boolean> => (await stat(file).catch(() => undefined)) !== undefined;

/** What lies beside a trainer's file. Logs of older versions do not say of which run they are. */
type StoredLog = LogState & { readonly run?: RunIdentity };

async function readLog(file: string): Promise<StoredLog> {
  const state = await storedLog(`${file}.log`);
  if (state === undefined)
    throw new AdaptationError('checkpoint', `${file}.log is missing or damaged; remove ${file} to start anew`);
  return state;
}

/** The log as it was when the trainer's file was written: a crash may have left it ahead. */
function cutBack(state: LogState, step: number, file: string): LogState {
  if (state.step === step) return state;
  if (state.step < step) throw new AdaptationError('checkpoint', `${file}.log is older than ${file}; remove both to start anew`);
  const upTo = <T extends { step: number }>(points: readonly T[]) => points.filter((point) => point.step <= step);
  const factor = step / state.step;
  return {
    ...state,
    step,
    examplesSeen: Math.round(state.examplesSeen * factor),
    tokensSeen: Math.round(state.tokensSeen * factor),
    curve: upTo(state.curve),
    validation: upTo(state.validation),
  };
}

async function storedLog(file: string): Promise<StoredLog | undefined> {
  try {
    const state = JSON.parse(await readFile(file, 'utf8')) as StoredLog;
    return Number.isInteger(state.step) && Array.isArray(state.curve) && Array.isArray(state.validation) ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Lets timers and signals in: a step blocks the event loop. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));
