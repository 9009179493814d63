import { Tensor, type InferenceSession } from 'onnxruntime-node';
import type { BuiltGraph, Outputs } from './definition.js';
import type { Bindings } from './dim.js';
import type { DropoutMasks } from './dropout-masks.js';
import type { InputInfo } from './graph-builder.js';
import type { Weights } from './initializers.js';
import { matrixFlops } from './matrix-flops.js';
import { reachable } from './reachable.js';
import { bindFeeds, toOrt, type Feeds } from './session.js';
import type { SessionPool } from './session-pool.js';
import type { TableMemory } from './table-memory.js';
import type { TrainingBuffers } from './training-buffers.js';
import { averageInput, nextName, type TrainingGraph } from './training-graph.js';

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
    private readonly parts: {
      sessions: SessionPool;
      buffers: TrainingBuffers;
      tables: readonly TableMemory[];
      masks: DropoutMasks;
    },
    private readonly how: { readonly shapes: 'fixed' | 'dynamic'; /** Weights to store in sessions. */ readonly packed: Weights },
  ) {
    const { leaves } = reachable(Object.values(training.accumulate));
    // Ids are read by the trainer, which feeds the graph the positions of their rows instead.
    const ids = new Set(parts.tables.flatMap(({ lookups }) => [...lookups.keys()]));
    const fed = modelInputs.filter(({ noise, table }) => !noise && table === undefined);
    this.dataInputs = fed.filter(({ name, tensor }) => leaves.has(tensor) || ids.has(name));
    this.known = new Set(fed.map(({ name }) => name));
  }

  flops(feeds: Feeds): number {
    const bindings = this.bind(feeds);
    const rows = this.parts.tables.map((table) => table.binding([feeds]));
    return matrixFlops(Object.values(this.training.step), Object.assign({}, bindings, ...rows) as Bindings);
  }

  /** One batch, one step: loss and metrics; what comes next is in the buffers, to be committed. */
  async whole(feeds: Feeds, step: number, scalars: Record<string, Tensor>): Promise<Scalars> {
    const bindings = this.bind(feeds);
    const rows = this.gatherRows([feeds]);
    return this.run('step', feeds, { ...bindings, ...rows }, { step, part: 0 }, scalars, this.nextFetches());
  }

  /** Several batches, one step on the average of their gradients. */
  async accumulated(batches: readonly Feeds[], step: number, scalars: Record<string, Tensor>): Promise<Scalars> {
    const bindings = batches.map((feeds) => this.bind(feeds));
    const rows = this.gatherRows(batches);
    let sums = [this.parts.buffers, ...this.parts.tables].flatMap((owner) => owner.accumulators());
    const totals: Scalars = { loss: 0 };
    for (const [part, feeds] of batches.entries()) {
      const before = Object.fromEntries(sums.map(([name, sum]) => [name, sum]));
      const after = Object.fromEntries(sums.map(([name, , next]) => [nextName(name), next]));
      const values = await this.run('accumulate', feeds, { ...bindings[part], ...rows }, { step, part }, before, after);
      for (const [name, value] of Object.entries(values)) totals[name] = (totals[name] ?? 0) + value / batches.length;
      sums = sums.map(([name, sum, next]) => [name, next, sum]);
    }
    const extra = {
      ...scalars,
      ...Object.fromEntries(sums.map(([name, sum]) => [name, sum])),
      [averageInput]: scalar(1 / batches.length),
    };
    const applied = await this.run('apply', {}, rows, { step, part: 0 }, extra, this.nextFetches());
    return { ...totals, ...applied, loss: totals.loss };
  }

  /** The step is done: what came next is current. */
  commit(): void {
    this.parts.buffers.swap();
    for (const table of this.parts.tables) table.commit();
  }

  private gatherRows(batches: readonly Feeds[]): Bindings {
    const exact = this.how.shapes === 'dynamic';
    return Object.assign({}, ...this.parts.tables.map((table) => table.gather(batches, exact))) as Bindings;
  }

  private nextFetches(): Record<string, Tensor | null> {
    const owners = [this.parts.buffers, ...this.parts.tables];
    return Object.assign({}, ...owners.map((owner) => owner.nextFetches())) as Record<string, Tensor | null>;
  }

  private bind(feeds: Feeds): Bindings {
    return bindFeeds(this.dataInputs, feeds, this.known);
  }

  /** Runs one of the training graphs in the session of those sizes. */
  private async run(
    kind: 'step' | 'accumulate' | 'apply',
    feeds: Feeds,
    bindings: Bindings,
    at: { step: number; part: number },
    extra: Record<string, Tensor>,
    fetches: Record<string, Tensor | null>,
  ): Promise<Scalars> {
    const { sessions, buffers, tables, masks } = this.parts;
    const outputs = this.training[kind];
    const { session, inputs } = await sessions.get(
      kind,
      outputs,
      this.how.shapes === 'dynamic' ? null : bindings,
      this.how.packed,
    );
    const given = Object.assign({}, ...tables.map((table) => table.positions(feeds)), extra) as Record<string, Tensor>;
    const tensors: Record<string, Tensor> = {};
    for (const name of inputs) {
      const info = this.built.builder.inputs.get(name);
      tensors[name] =
        given[name] ??
        buffers.get(name) ??
        tables.map((table) => table.get(name)).find((tensor) => tensor !== undefined) ??
        (info?.noise ? masks.draw(info, bindings, at) : toOrt(feeds[name]));
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
