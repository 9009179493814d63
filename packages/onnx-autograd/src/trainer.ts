import * as ort from 'onnxruntime-node';
import { batchReader, type BatchSource, type StepFeeds } from './batch-source.js';
import { hashTensors, loadCheckpoint, saveCheckpoint, type TrainingState } from './checkpoint.js';
import type { BuiltGraph, GraphDefinition, Outputs } from './definition.js';
import { bind, type Bindings } from './dim.js';
import { AutogradError, DisposedError, NonFiniteLossError } from './errors.js';
import type { InputInfo, ParameterInfo } from './graph-builder.js';
import { asFloat32, elementCount, toFloat32, type HostTensor } from './host-tensor.js';
import { initialWeights, type Weights } from './initializers.js';
import { matrixFlops, reachable, toOnnx } from './onnx-model.js';
import type { Optimizer } from './optimizers.js';
import { checkWeights, pickOutputs } from './program.js';
import { Random } from './random.js';
import { writeSafetensors } from './safetensors.js';
import { constantRate, type Schedule } from './schedules.js';
import { bindFeeds, bucketKey, fromOrt, openSession, toOrt, type Feeds, type SessionOptions } from './session.js';
import {
  accumulatedName,
  averageInput,
  learningRateInput,
  nextName,
  slotName,
  stepInput,
  gradientNorm,
  trainingGraph,
  type TrainingGraph,
} from './training-graph.js';

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
  /** Clip gradients to this global norm. */
  readonly clipNorm?: number;
  /** Further scalar outputs to report at every step. */
  readonly metrics?: readonly (keyof O & string)[];
  /**
   * `fixed` (the default) compiles a graph for every set of sizes that is fed: fastest where sizes are few. `dynamic` compiles one for
   * all sizes: for batches whose sizes vary, where compiling and the memory of many graphs would cost more than it saves.
   */
  readonly shapes?: 'fixed' | 'dynamic';
  /** Where and how often to write checkpoints; also written when a run is aborted. */
  readonly checkpoint?: { readonly file: string; readonly everySteps?: number };
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
 */
export class Trainer<O extends Outputs = Outputs> {
  private readonly sessions = new Map<string, { session: ort.InferenceSession; inputs: readonly string[] }>();
  private readonly masks = new Map<string, Float32Array>();
  private current = new Map<string, ort.Tensor>();
  private spare = new Map<string, ort.Tensor>();
  private accumulators: AccumulatorPair | undefined;
  private frozenHash: string | undefined;
  private completed = 0;
  private busy = false;
  private disposed = false;

  private constructor(
    private readonly definition: GraphDefinition<O>,
    private readonly options: TrainerOptions<O>,
    private readonly built: BuiltGraph<O>,
    private readonly training: TrainingGraph,
    /** The inputs that a batch must feed. */
    private readonly dataInputs: readonly InputInfo[],
    /** Every input that the model declares: those that the loss does not read may be fed too. */
    private readonly modelInputs: ReadonlySet<string>,
    private readonly frozen: Map<string, ort.Tensor>,
  ) {}

  static async create<O extends Outputs>(definition: GraphDefinition<O>, options: TrainerOptions<O>): Promise<Trainer<O>> {
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
    const given = options.weights ?? new Map<string, HostTensor>();
    checkWeights(
      parameters.filter(({ name }) => given.has(name)),
      given,
    );
    const fresh = initialWeights(
      parameters.filter(({ name }) => !given.has(name)),
      options.seed,
    );
    const learning = new Set(training.trainable.map(({ name }) => name));
    const frozen = new Map<string, ort.Tensor>();
    for (const { name } of parameters)
      if (!learning.has(name)) frozen.set(name, toOrt(asFloat32((given.get(name) ?? fresh.get(name))!)));
    const { leaves } = reachable(Object.values(training.accumulate));
    const dataInputs = modelInputs.filter(({ tensor, noise }) => !noise && leaves.has(tensor));
    const trainer = new Trainer(
      definition,
      options,
      built,
      training,
      dataInputs,
      new Set(modelInputs.map(({ name }) => name)),
      frozen,
    );
    for (const { name, shape } of training.trainable) {
      const first = given.get(name) ?? fresh.get(name)!;
      trainer.allocate(name, shape, toFloat32(first).slice());
      for (const slot of options.optimizer.slots) trainer.allocate(slotName(slot, name), shape);
    }
    return trainer;
  }

  private allocate(name: string, shape: readonly number[], data = new Float32Array(elementCount(shape))): void {
    this.current.set(name, new ort.Tensor('float32', data, shape as number[]));
    this.spare.set(name, new ort.Tensor('float32', new Float32Array(data.length), shape as number[]));
  }

  /** Steps done so far. */
  get steps(): number {
    return this.completed;
  }

  /** The parameters that learn. */
  get trainable(): readonly ParameterInfo[] {
    return this.training.trainable;
  }

  /** Floating-point operations (2 m n k) of the matrix products in one step on such feeds: forward, and backward where it is needed. */
  flops(feeds: Feeds): number {
    return matrixFlops(Object.values(this.training.step), bindFeeds(this.dataInputs, feeds, this.modelInputs));
  }

  /** One optimizer step. On an error nothing has changed. One at a time: the next may begin when this one is done. */
  async step(feeds: StepFeeds): Promise<StepResult> {
    this.assertAlive();
    if (this.busy) throw new AutogradError('the trainer is in the middle of a step; await it before the next');
    this.busy = true;
    try {
      return await this.nextStep(feeds);
    } finally {
      this.busy = false;
    }
  }

  private async nextStep(feeds: StepFeeds): Promise<StepResult> {
    const step = this.completed + 1;
    const learningRate = this.options.optimizer.learningRate * (this.options.schedule ?? constantRate())(step);
    const scalars = { [learningRateInput]: scalar(learningRate), [stepInput]: scalar(step) };
    const batches = Array.isArray(feeds) ? (feeds as readonly Feeds[]) : [feeds as Feeds];
    const results =
      batches.length === 1 ? await this.wholeStep(batches[0], step, scalars) : await this.accumulatedStep(batches, step, scalars);
    for (const [name, value] of Object.entries(results))
      if ((name === 'loss' || name === gradientNorm) && !Number.isFinite(value)) throw new NonFiniteLossError(step, value, name);
    [this.current, this.spare] = [this.spare, this.current];
    this.completed = step;
    const { loss, ...metrics } = results;
    return { step, loss, learningRate, metrics };
  }

  private async wholeStep(
    feeds: Feeds,
    step: number,
    scalars: Record<string, ort.Tensor>,
  ): Promise<Record<string, number> & { loss: number }> {
    const fetches = this.nextFetches();
    for (const name of this.scalarOutputs(this.training.step)) fetches[name] = null;
    return this.runGraph('step', this.training.step, feeds, { step, part: 0 }, scalars, fetches);
  }

  private async accumulatedStep(
    batches: readonly Feeds[],
    step: number,
    scalars: Record<string, ort.Tensor>,
  ): Promise<Record<string, number> & { loss: number }> {
    this.accumulators ??= [this.accumulatorSet(), this.accumulatorSet()];
    for (const tensor of this.accumulators[0].values()) (tensor.data as Float32Array).fill(0);
    const totals: Record<string, number> & { loss: number } = { loss: 0 };
    for (const [part, feeds] of batches.entries()) {
      const pair: AccumulatorPair = this.accumulators;
      const [from, into] = pair;
      const fetches: Record<string, ort.Tensor | null> = Object.fromEntries(
        [...into].map(([name, tensor]) => [nextName(name), tensor]),
      );
      for (const name of this.scalarOutputs(this.training.accumulate)) fetches[name] = null;
      const values = await this.runGraph(
        'accumulate',
        this.training.accumulate,
        feeds,
        { step, part },
        Object.fromEntries(from),
        fetches,
      );
      for (const [name, value] of Object.entries(values)) totals[name] = (totals[name] ?? 0) + value / batches.length;
      this.accumulators = [into, from];
    }
    const fetches = this.nextFetches();
    for (const name of this.scalarOutputs(this.training.apply)) fetches[name] = null;
    const extra = { ...scalars, ...Object.fromEntries(this.accumulators[0]), [averageInput]: scalar(1 / batches.length) };
    const applied = await this.runGraph('apply', this.training.apply, {}, { step, part: 0 }, extra, fetches);
    return { ...totals, ...applied, loss: totals.loss };
  }

  private accumulatorSet(): Map<string, ort.Tensor> {
    return new Map(
      this.training.trainable.map(({ name, shape }) => [
        accumulatedName(name),
        new ort.Tensor('float32', new Float32Array(elementCount(shape)), shape as number[]),
      ]),
    );
  }

  private nextFetches(): Record<string, ort.Tensor | null> {
    return Object.fromEntries([...this.spare].map(([name, tensor]) => [nextName(name), tensor]));
  }

  private scalarOutputs(outputs: Outputs): string[] {
    return Object.keys(outputs).filter((name) => !name.startsWith('next/'));
  }

  /** Runs one of the training graphs in the session of the feeds' shapes. */
  private async runGraph(
    kind: string,
    outputs: Outputs,
    feeds: Feeds,
    at: { step: number; part: number },
    extra: Record<string, ort.Tensor>,
    fetches: Record<string, ort.Tensor | null>,
  ): Promise<Record<string, number> & { loss: number }> {
    const bindings = kind === 'apply' ? {} : bindFeeds(this.dataInputs, feeds, this.modelInputs);
    const { session, inputs } = await this.session(kind, outputs, bindings);
    const tensors: Record<string, ort.Tensor> = {};
    for (const name of inputs) {
      const info = this.built.builder.inputs.get(name);
      tensors[name] =
        extra[name] ??
        this.current.get(name) ??
        this.frozen.get(name) ??
        (info?.noise ? this.mask(info, bindings, at) : toOrt(feeds[name]));
    }
    const results = await session.run(
      tensors,
      fetches as ort.InferenceSession.NullableOnnxValueMapType & Record<string, ort.Tensor>,
    );
    const values: Record<string, number> & { loss: number } = { loss: 0 };
    for (const name of this.scalarOutputs(outputs)) values[name] = Number((results[name].data as Float32Array)[0]);
    return values;
  }

  private mask(info: InputInfo, bindings: Bindings, at: { step: number; part: number }): ort.Tensor {
    const shape = info.shape.map((dim) => Number(bind(dim, bindings)));
    const count = elementCount(shape);
    // One buffer per mask, as large as the largest so far: sizes may be different in every step.
    const known = this.masks.get(info.name);
    const buffer = known && known.length >= count ? known : new Float32Array(count);
    this.masks.set(info.name, buffer);
    const mask = new ort.Tensor('float32', buffer.subarray(0, count), shape);
    Random.of(this.options.seed, info.name, at.step, at.part).fillDropout(mask.data as Float32Array, info.noise!.rate);
    return mask;
  }

  private async session(
    kind: string,
    outputs: Outputs,
    bindings: Bindings,
  ): Promise<{ session: ort.InferenceSession; inputs: readonly string[] }> {
    const fixed = this.options.shapes === 'dynamic' ? {} : bindings;
    const key = `${kind}|${bucketKey(fixed)}`;
    let opened = this.sessions.get(key);
    if (!opened) {
      const model = toOnnx({ outputs, bindings: fixed });
      const memoryPattern = this.options.shapes !== 'dynamic';
      opened = { session: await openSession(model.bytes, { ...this.options, memoryPattern }), inputs: model.inputs };
      this.sessions.set(key, opened);
    }
    return opened;
  }

  /**
   * Trains over batches until they end, `steps` are done in all, or the signal aborts (which writes the checkpoint and
   * throws the signal's reason).
   */
  async *run(
    source: BatchSource,
    options: { signal?: AbortSignal; steps?: number } = {},
  ): AsyncGenerator<StepResult, void, undefined> {
    const checkpoint = this.options.checkpoint;
    const limit = options.steps ?? Infinity;
    const batches = batchReader(source);
    const stopIfAborted = async (): Promise<void> => {
      if (!options.signal?.aborted) return;
      // Before the first step there is nothing to keep, and an older file may be waiting to be resumed.
      if (checkpoint && this.completed > 0) await this.saveCheckpoint(checkpoint.file);
      options.signal.throwIfAborted();
    };
    try {
      while (this.completed < limit) {
        await stopIfAborted();
        const feeds = await batches.next(this.completed + 1);
        if (feeds === null) break;
        await stopIfAborted();
        const result = await this.step(feeds);
        if (checkpoint?.everySteps && result.step % checkpoint.everySteps === 0) await this.saveCheckpoint(checkpoint.file);
        yield result;
      }
    } finally {
      await batches.close();
    }
  }

  /**
   * Outputs of the model on a batch, without dropout and without learning.
   *
   * @param options.weights used in place of the trainer's own where they are given (an average of them, say)
   */
  async evaluate(
    feeds: Feeds,
    names?: readonly (keyof O & string)[],
    { weights }: { weights?: Weights | undefined } = {},
  ): Promise<Record<string, HostTensor>> {
    this.assertAlive();
    const { builder, outputs } = this.definition.build({ training: false });
    const picked = pickOutputs(outputs, names ?? Object.keys(outputs));
    const kind = `evaluate:${Object.keys(picked).join(',')}`;
    let opened = this.sessions.get(kind);
    if (!opened) {
      const model = toOnnx({ outputs: picked });
      opened = { session: await openSession(model.bytes, { ...this.options, memoryPattern: false }), inputs: model.inputs };
      this.sessions.set(kind, opened);
    }
    const used = opened.inputs;
    bindFeeds(
      [...builder.inputs.values()].filter(({ name }) => used.includes(name)),
      feeds,
      new Set(builder.inputs.keys()),
    );
    const other = (name: string): ort.Tensor | undefined => {
      const given = weights?.get(name);
      if (!given) return undefined;
      checkWeights(
        [...builder.parameters.values()].filter((parameter) => parameter.name === name),
        weights!,
      );
      return toOrt(asFloat32(given));
    };
    const tensors = Object.fromEntries(
      used.map((name) => [name, other(name) ?? this.current.get(name) ?? this.frozen.get(name) ?? toOrt(feeds[name])]),
    );
    const results = await opened.session.run(tensors);
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromOrt(tensor)]));
  }

  /**
   * A copy of the weights; without the frozen ones, when asked.
   *
   * @param options.slot what the optimizer remembers of every learned weight under this name, in place of the weight (see `averaged`)
   */
  weights(options: { trainableOnly?: boolean; slot?: string } = {}): Weights {
    this.assertAlive();
    const { slot } = options;
    if (slot !== undefined && !this.options.optimizer.slots.includes(slot))
      throw new AutogradError(
        `the optimizer keeps no '${slot}'; it keeps ${this.options.optimizer.slots.join(', ') || 'nothing'}`,
      );
    const weights: Weights = new Map();
    for (const { name, shape } of this.built.builder.parameters.values()) {
      const learned = this.current.get(slot === undefined ? name : slotName(slot, name));
      if (learned) weights.set(name, { dtype: 'float32', shape, data: Float32Array.from(learned.data as Float32Array) });
      else if (!options.trainableOnly) weights.set(name, fromOrt(this.frozen.get(name)!));
    }
    return weights;
  }

  async saveWeights(file: string, metadata: Record<string, string> = {}): Promise<void> {
    await writeSafetensors(file, this.weights(), metadata);
  }

  /** Writes weights, optimizer memory and the step, atomically. */
  async saveCheckpoint(file: string): Promise<void> {
    this.assertAlive();
    await saveCheckpoint(file, this.state());
  }

  private state(): TrainingState {
    return {
      step: this.completed,
      seed: this.options.seed,
      // Read once: half a gigabyte of frozen weights takes a second.
      frozen: (this.frozenHash ??= hashTensors([...this.frozen].map(([name, tensor]) => [name, fromOrt(tensor)] as const))),
      optimizer: JSON.stringify({ name: this.options.optimizer.name, ...this.options.optimizer.settings }),
      tensors: new Map([...this.current].map(([name, tensor]) => [name, fromOrt(tensor)])),
    };
  }

  /** Continues from a checkpoint of the same model, optimizer and seed: the numbers are those of a run that never stopped. */
  async resume(file: string): Promise<void> {
    this.assertAlive();
    const expected = this.state();
    const loaded = await loadCheckpoint(file, expected);
    for (const [name, tensor] of loaded.tensors) (this.current.get(name)!.data as Float32Array).set(tensor.data as Float32Array);
    this.completed = loaded.step;
  }

  private assertAlive(): void {
    if (this.disposed) throw new DisposedError('trainer');
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    for (const { session } of this.sessions.values()) await session.release();
    this.sessions.clear();
    this.masks.clear();
    this.current.clear();
    this.spare.clear();
    this.frozen.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

type AccumulatorPair = [Map<string, ort.Tensor>, Map<string, ort.Tensor>];

const scalar = (value: number): ort.Tensor => new ort.Tensor('float32', Float32Array.of(value), []);
