import type { BatchSource, StepFeeds } from './batch-source.js';
import { hashTensors, loadCheckpoint, saveCheckpoint, type TrainingState } from './checkpoint.js';
import type { GraphDefinition, Outputs } from './definition.js';
import { DropoutMasks } from './dropout-masks.js';
import { AutogradError, DisposedError, NonFiniteLossError } from './errors.js';
import type { ParameterInfo } from './graph-builder.js';
import { asFloat32, toFloat32, type HostTensor } from './host-tensor.js';
import { initialWeights, type Weights } from './initializers.js';
import { reachable } from './reachable.js';
import { checkTimes, type CheckpointTimes } from './checkpoint-clock.js';
import { averageSlot, checkedRate, type Optimizer } from './optimizers.js';
import { checkWeights, pickOutputs } from './program.js';
import { writeSafetensors } from './safetensors.js';
import { constantRate, type Schedule } from './schedules.js';
import { bindFeeds, fromOrt, toOrt, type Feeds, type SessionOptions } from './session.js';
import { SessionPool } from './session-pool.js';
import { scalar, StepRunner } from './step-runner.js';
import { TableMemory } from './table-memory.js';
import { TrainingBuffers } from './training-buffers.js';
import { gradientNorm, learningRateInput, stepInput, trainingGraph, weightSum } from './training-graph.js';
import { trainingRun } from './training-run.js';

export interface TrainerOptions<O extends Outputs> extends SessionOptions {
  /** The scalar output to minimize. */
  readonly minimize: keyof O & string;
  readonly optimizer: Optimizer;
  /** Seeds the first weights and the dropout masks. */
  readonly seed: number;
  /** Weights to start from; parameters that are not among them are initialised. */
  readonly weights?: Weights;
  /** Which parameters learn; all by default. The others are frozen and cost no gradient. */
  readonly trainable?: (name: string) => boolean;
  readonly schedule?: Schedule;
  /** Clip gradients to this global norm, above 0. */
  readonly clipNorm?: number;
  /** Further scalar outputs to report at every step. */
  readonly metrics?: readonly (keyof O & string)[];
  /**
   * `fixed` (the default) compiles a graph for every set of sizes that is fed: fastest where sizes are few. `dynamic` compiles one for
   * all sizes: for batches whose sizes vary, where compiling and the memory of many graphs would cost more than it saves.
   */
  readonly shapes?: 'fixed' | 'dynamic';
  /**
   * `fed` (the default) holds frozen weights once, whatever the number of sessions. `packed` also writes them into every session
   * that trains, where products find them laid out for the processor: products with them are a fifth faster, and each session holds
   * them twice more (once for the forward pass, once for the backward pass). For a large frozen model and one set of sizes, or
   * `dynamic` shapes. A model file holds 2 GB: above that, weights stay fed.
   */
  readonly frozenWeights?: 'fed' | 'packed';
  /** Where and how often to write checkpoints; also written when a run is aborted. */
  readonly checkpoint?: { readonly file: string } & CheckpointTimes;
}

export interface StepResult {
  /** Counted from 1. */
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/**
 * Trains a model: forward, backward and optimizer are one onnxruntime graph, run once per step. Weights live in two
 * buffers that swap roles at every step, so nothing is copied.
 *
 * Of a table (`builder.table`) a step reads and changes only the rows that its feeds name. They are gathered into a matrix with as
 * many rows as ids are fed, and the graph updates those, by the same optimizer. A row's Adam is that of the steps that touched it:
 * its moments and its decay stand still between them, and its bias correction counts them alone, so that the first step of a rare
 * row is not larger than that of a frequent one (which it is where the step of the whole run is counted, as in PyTorch's
 * SparseAdam). When every step touches every row, this is dense Adam. A table of R rows of width D holds R (12 D + 8) bytes
 * with Adam, whatever the batch; a step costs what its ids cost, whatever R is.
 */
export class Trainer<O extends Outputs = Outputs> {
  private completed = 0;
  private busy = false;
  /** What was asked for last: steps, evaluations, saves and resumes take turns, so that each finds numbers of one step. */
  private last: Promise<unknown> = Promise.resolve();
  private disposing: Promise<void> | undefined;
  private frozenHash: string | undefined;

  private constructor(
    private readonly definition: GraphDefinition<O>,
    private readonly options: TrainerOptions<O>,
    private readonly parameters: readonly ParameterInfo[],
    /** The parameters that learn, tables included. */
    readonly trainable: readonly ParameterInfo[],
    private readonly parts: {
      sessions: SessionPool;
      buffers: TrainingBuffers;
      tables: readonly TableMemory[];
      masks: DropoutMasks;
    },
    private readonly runner: StepRunner,
  ) {}

  /**
   * Builds the graph of a step and sets out the weights; sessions are opened when a step first needs them.
   *
   * @throws AutogradError (no output of that name, a loss or metric that is no scalar, nothing that learns, a `clipNorm` or times of
   *   checkpoints that are none), NotDifferentiableError (an
   *   operation without a gradient on the way to the loss), WeightError (a given weight of another shape), and what the model function throws:
   *   ShapeError
   */
  static async create<O extends Outputs>(definition: GraphDefinition<O>, options: TrainerOptions<O>): Promise<Trainer<O>> {
    checkTimes(options.checkpoint ?? {});
    const built = definition.fresh({ training: true });
    const modelInputs = [...built.builder.inputs.values()];
    const training = trainingGraph(built, {
      minimize: options.minimize,
      metrics: options.metrics ?? [],
      optimizer: options.optimizer,
      trainable: options.trainable ?? (() => true),
      clipNorm: options.clipNorm,
    });
    const parameters = [...built.builder.parameters.values()];
    const tables = [...built.builder.tables.values()];
    const all = [...parameters, ...tables];
    const given = options.weights ?? new Map<string, HostTensor>();
    checkWeights(
      all.filter(({ name }) => given.has(name)),
      given,
    );
    const fresh = initialWeights(
      all.filter(({ name }) => !given.has(name)),
      options.seed,
    );
    const { slots } = options.optimizer;
    const { leaves } = reachable(Object.values(training.accumulate));
    const parts = {
      sessions: new SessionPool(options),
      buffers: new TrainingBuffers(parameters, training.units, slots, new Map([...given, ...fresh])),
      tables: tables.map((info) => {
        const first = given.get(info.name);
        const values = first ? toFloat32(first).slice() : toFloat32(fresh.get(info.name)!);
        const lookups = new Map([...info.lookups].filter(([, { tensor }]) => leaves.has(tensor)));
        return new TableMemory(info, lookups, training.trainableTables.includes(info), slots, values);
      }),
      masks: new DropoutMasks(options.seed),
    };
    const runner = new StepRunner(built, modelInputs, training, parts, {
      shapes: options.shapes ?? 'fixed',
      packed: options.frozenWeights === 'packed' ? packable(parts.buffers.frozenWeights) : new Map(),
    });
    return new Trainer(definition, options, parameters, [...training.trainable, ...training.trainableTables], parts, runner);
  }

  /** Steps done so far. */
  get steps(): number {
    return this.completed;
  }

  /** Floating-point operations (2 m n k) of the matrix products in one step on such feeds: forward, and backward where it is needed. */
  flops(feeds: Feeds): number {
    return this.runner.flops(feeds);
  }

  /**
   * One optimizer step. On an error nothing has changed. One at a time: the next may begin when this one is done.
   *
   * @throws FeedError, NonFiniteLossError (loss, or norm of the gradients where they are clipped, or sum of the weights where they are
   *   not), AutogradError (no batch, a schedule that gives no rate, or the step before is not done), DisposedError
   */
  async step(feeds: StepFeeds): Promise<StepResult> {
    this.assertAlive();
    if (this.busy) throw new AutogradError('the trainer is in the middle of a step; await it before the next');
    this.busy = true;
    try {
      return await this.inTurn(() => this.nextStep(feeds));
    } finally {
      this.busy = false;
    }
  }

  /** Begins when all that was asked for before is done. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    // A failure is its caller's alone.
    this.last = result.catch(() => undefined);
    return result;
  }

  private async nextStep(feeds: StepFeeds): Promise<StepResult> {
    const step = this.completed + 1;
    const { optimizer, schedule = constantRate() } = this.options;
    const factor = schedule(step);
    const learningRate = checkedRate(
      optimizer.learningRate * factor,
      `at step ${step}, where the schedule multiplies ${optimizer.learningRate} by ${factor},`,
    );
    const scalars = { [learningRateInput]: scalar(learningRate), [stepInput]: scalar(step) };
    const batches = Array.isArray(feeds) ? (feeds as readonly Feeds[]) : [feeds as Feeds];
    if (batches.length === 0) throw new AutogradError('a step has no batch; give one or more');
    const results = await (batches.length === 1
      ? this.runner.whole(batches[0], step, scalars)
      : this.runner.accumulated(batches, step, scalars));
    const { loss, [weightSum]: sum, ...metrics } = results;
    for (const [name, value] of [
      ['loss', loss],
      [gradientNorm, metrics[gradientNorm]],
      ['sum of the weights', sum],
    ] as const)
      if (value !== undefined && !Number.isFinite(value)) throw new NonFiniteLossError(step, value, name);
    this.runner.commit();
    this.completed = step;
    return { step, loss, learningRate, metrics };
  }

  /**
   * Trains over batches until they end, `steps` are done in all, or the signal aborts (which writes the checkpoint and
   * throws the signal's reason).
   *
   * @throws (while iterating) what `step` does, what the source throws, SafetensorsError where a checkpoint cannot be written, the signal's reason
   */
  run(source: BatchSource, options: { signal?: AbortSignal; steps?: number } = {}): AsyncGenerator<StepResult, void, undefined> {
    return trainingRun(source, { ...options, checkpoint: this.options.checkpoint, trainer: this });
  }

  /**
   * Outputs of the model on a batch, without dropout and without learning.
   *
   * @param options.weights used in place of the trainer's own where they are given (an average of them, say)
   * @throws FeedError, WeightError (a given weight of another shape), AutogradError (no output of that name), DisposedError
   */
  async evaluate(
    feeds: Feeds,
    names?: readonly (keyof O & string)[],
    { weights }: { weights?: Weights | undefined } = {},
  ): Promise<Record<string, HostTensor>> {
    this.assertAlive();
    return this.inTurn(() => this.evaluateNow(feeds, names, weights));
  }

  private async evaluateNow(
    feeds: Feeds,
    names: readonly (keyof O & string)[] | undefined,
    weights: Weights | undefined,
  ): Promise<Record<string, HostTensor>> {
    const { builder, outputs } = this.definition.build({ training: false });
    const picked = pickOutputs(outputs, names ?? Object.keys(outputs));
    const { session, inputs } = await this.parts.sessions.get(`evaluate:${Object.keys(picked).join(',')}`, picked, null);
    bindFeeds(
      [...builder.inputs.values()].filter(({ name }) => inputs.includes(name)),
      feeds,
      new Set(builder.inputs.keys()),
    );
    const { buffers, tables } = this.parts;
    if (weights)
      checkWeights(
        [...builder.parameters.values()].filter(({ name }) => weights.has(name)),
        weights,
      );
    const whole = new Map(tables.map(({ info, values }) => [info.name, values]));
    const tensorOf = (name: string): ReturnType<typeof toOrt> => {
      const given = weights?.get(name);
      return given ? toOrt(asFloat32(given)) : (buffers.get(name) ?? toOrt(whole.get(name) ?? feeds[name]));
    };
    const results = await session.run(Object.fromEntries(inputs.map((name) => [name, tensorOf(name)])));
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromOrt(tensor)]));
  }

  /**
   * A copy of the weights, but of the frozen ones, which are the trainer's own arrays and not to be written into; without those, when asked.
   *
   * @param options.slot what the optimizer remembers of every learned weight under this name, in place of the weight (see `averaged`); an
   *   average before the first step is the weights
   */
  weights(options: { trainableOnly?: boolean; slot?: string } = {}): Weights {
    this.assertAlive();
    const { slot } = options;
    if (slot !== undefined && !this.options.optimizer.slots.includes(slot))
      throw new AutogradError(
        `the optimizer keeps no '${slot}'; it keeps ${this.options.optimizer.slots.join(', ') || 'nothing'}`,
      );
    const weights: Weights = new Map();
    // Before the first step the average is of nothing yet, and its memory holds zeros.
    const kept = slot === averageSlot && this.completed === 0 ? undefined : slot;
    for (const parameter of this.parameters) {
      const { learns, value } = this.parts.buffers.weight(parameter, kept);
      if (learns || !options.trainableOnly) weights.set(parameter.name, value);
    }
    for (const table of this.parts.tables)
      if (table.learns || !options.trainableOnly) weights.set(table.info.name, table.copy(kept));
    return weights;
  }

  async saveWeights(file: string, metadata: Record<string, string> = {}): Promise<void> {
    await writeSafetensors(file, this.weights(), metadata);
  }

  /** Writes weights, optimizer memory and the step, atomically. Waits for a step that runs; the next one waits for it. */
  async saveCheckpoint(file: string): Promise<void> {
    this.assertAlive();
    await this.inTurn(() => saveCheckpoint(file, this.state()));
  }

  private state(): TrainingState {
    const { optimizer, seed } = this.options;
    const { buffers, tables } = this.parts;
    // Read once: half a gigabyte of frozen weights takes a second.
    this.frozenHash ??= hashTensors([
      ...buffers.frozenWeights,
      ...tables.flatMap(({ info, learns, values }): [string, HostTensor][] => (learns ? [] : [[info.name, values]])),
    ]);
    return {
      step: this.completed,
      seed,
      optimizer: JSON.stringify({ name: optimizer.name, ...optimizer.settings }),
      frozen: this.frozenHash,
      tensors: new Map([...buffers.state(), ...tables.flatMap((table) => table.state())]),
    };
  }

  /**
   * Continues from a checkpoint of the same model, optimizer and seed: the numbers are those of a run that never stopped.
   *
   * @throws CheckpointError (of another model, optimizer, seed or frozen weights, or no checkpoint), SafetensorsError (no such file, or
   *   damaged), DisposedError; the trainer is then as it was
   */
  async resume(file: string): Promise<void> {
    this.assertAlive();
    await this.inTurn(async () => {
      const { step, tensors } = await loadCheckpoint(file, this.state());
      for (const owner of [this.parts.buffers, ...this.parts.tables]) owner.restore(tensors);
      this.completed = step;
    });
  }

  private assertAlive(): void {
    if (this.disposing) throw new DisposedError('trainer');
  }

  /** Releases the sessions and the numbers, when what was asked for before is done. Later calls give a DisposedError. */
  async dispose(): Promise<void> {
    await (this.disposing ??= this.inTurn(async () => {
      await this.parts.sessions.release();
      this.parts.masks.clear();
      this.parts.buffers.clear();
      for (const table of this.parts.tables) table.clear();
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/** Protocol buffers end at 2 GB; the rest of a graph takes a few megabytes. */
const largestModel = 2 ** 31 - 2 ** 26;

/** As many weights as a model file can hold, in their order. */
function packable(weights: Weights): Weights {
  let room = largestModel;
  return new Map([...weights].filter(([, { data }]) => (room -= data.byteLength) >= 0));
}
