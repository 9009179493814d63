import { Tensor, type InferenceSession } from 'onnxruntime-node';
import type { BuiltGraph, Outputs } from './definition.js';
import type { Bindings } from './dim.js';
import type { DropoutMasks } from './dropout-masks.js';
import type { InputInfo } from './graph-builder.js';
import { matrixFlops, reachable } from './onnx-model.js';
import { bindFeeds, toOrt, type Feeds } from './session.js';
import type { SessionPool } from './session-pool.js';
import type { TrainingBuffers } from './training-buffers.js';
import { averageInput, type TrainingGraph } from './training-graph.js';

/** The scalars that a graph put out. */
export type Scalars = Record<string, number> & { loss: number };

/** Runs the graphs of training steps: from the current buffers and a batch into the next buffers. */
export class StepRunner {
  /** The inputs that a batch must feed. */
  private readonly dataInputs: readonly InputInfo[];
  /** Every input that the model declares: those that the loss does not read may be fed too. */
  private readonly known: ReadonlySet<string>;

  constructor(
    private readonly built: BuiltGraph,
    /** The model's own inputs, without those that training adds. */
    modelInputs: readonly InputInfo[],
    private readonly training: TrainingGraph,
    private readonly parts: { sessions: SessionPool; buffers: TrainingBuffers; masks: DropoutMasks },
    private readonly shapes: 'fixed' | 'dynamic',
  ) {
    const { leaves } = reachable(Object.values(training.accumulate));
    this.dataInputs = modelInputs.filter(({ tensor, noise }) => !noise && leaves.has(tensor));
    this.known = new Set(modelInputs.map(({ name }) => name));
  }

  flops(feeds: Feeds): number {
    return matrixFlops(Object.values(this.training.step), this.bind(feeds));
  }

  /** One batch, one step: loss and metrics; the next weights are in the spare buffers. */
  whole(feeds: Feeds, step: number, scalars: Record<string, Tensor>): Promise<Scalars> {
    return this.run('step', feeds, { step, part: 0 }, scalars, this.parts.buffers.nextFetches());
  }

  /** Several batches, one step on the average of their gradients. */
  async accumulated(batches: readonly Feeds[], step: number, scalars: Record<string, Tensor>): Promise<Scalars> {
    const accumulation = this.parts.buffers.accumulation();
    const totals: Scalars = { loss: 0 };
    for (const [part, feeds] of batches.entries()) {
      const values = await this.run('accumulate', feeds, { step, part }, accumulation.sums(), accumulation.next());
      for (const [name, value] of Object.entries(values)) totals[name] = (totals[name] ?? 0) + value / batches.length;
      accumulation.advance();
    }
    const extra = { ...scalars, ...accumulation.sums(), [averageInput]: scalar(1 / batches.length) };
    const applied = await this.run('apply', null, { step, part: 0 }, extra, this.parts.buffers.nextFetches());
    return { ...totals, ...applied, loss: totals.loss };
  }

  private bind(feeds: Feeds): Bindings {
    return bindFeeds(this.dataInputs, feeds, this.known);
  }

  /** Runs one of the training graphs in the session of the feeds' shapes. */
  private async run(
    kind: 'step' | 'accumulate' | 'apply',
    feeds: Feeds | null,
    at: { step: number; part: number },
    extra: Record<string, Tensor>,
    fetches: Record<string, Tensor | null>,
  ): Promise<Scalars> {
    const outputs = this.training[kind];
    const bindings = feeds ? this.bind(feeds) : {};
    const { session, inputs } = await this.parts.sessions.get(kind, outputs, this.shapes === 'dynamic' ? null : bindings);
    const tensors: Record<string, Tensor> = {};
    for (const name of inputs) {
      const info = this.built.builder.inputs.get(name);
      tensors[name] =
        extra[name] ??
        this.parts.buffers.get(name) ??
        (info?.noise ? this.parts.masks.draw(info, bindings, at) : toOrt(feeds![name]));
    }
    const reported = scalarOutputs(outputs);
    for (const name of reported) fetches[name] = null;
    const results = await session.run(tensors, fetches as InferenceSession.NullableOnnxValueMapType & Record<string, Tensor>);
    const values: Scalars = { loss: 0 };
    for (const name of reported) values[name] = Number((results[name].data as Float32Array)[0]);
    return values;
  }
}

const scalarOutputs = (outputs: Outputs): string[] => Object.keys(outputs).filter((name) => !name.startsWith('next/'));

export const scalar = (value: number): Tensor => new Tensor('float32', Float32Array.of(value), []);
