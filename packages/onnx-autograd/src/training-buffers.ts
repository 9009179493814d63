import { Tensor } from 'onnxruntime-node';
import type { ParameterInfo } from './graph-builder.js';
import { asFloat32, elementCount, toFloat32, type HostTensor } from './host-tensor.js';
import type { Weights } from './initializers.js';
import { fromOrt, toOrt } from './session.js';
import { accumulatedName, nextName, slotName } from './training-graph.js';
import type { UpdateUnit } from './update-units.js';

/**
 * The numbers of a training run. What learns (weights and the optimizer's memory of them) lives in two sets of buffers that swap
 * roles at every step, so that nothing is copied and a step that fails changes nothing; frozen weights are held once.
 */
export class TrainingBuffers {
  private current = new Map<string, Tensor>();
  private spare = new Map<string, Tensor>();
  private readonly frozen = new Map<string, Tensor>();
  /** Names of the tensors that a step writes, and of those among them that hold several parameters. */
  private readonly written: string[] = [];
  private readonly joined = new Set<string>();
  private sums: [string, Tensor, Tensor][] | undefined;

  /** @param weights first values of all parameters; those of frozen ones are kept, those of the others copied */
  constructor(
    parameters: Iterable<ParameterInfo>,
    private readonly units: readonly UpdateUnit[],
    slots: readonly string[],
    weights: Weights,
  ) {
    const learns = new Set(units.flatMap(({ members }) => members.map(({ name }) => name)));
    for (const { name } of parameters) if (!learns.has(name)) this.frozen.set(name, toOrt(asFloat32(weights.get(name)!)));
    for (const unit of units) {
      this.allocate(unit);
      for (const slot of slots) this.allocate(unit, slot);
      for (const { name } of unit.members) (this.current.get(name)!.data as Float32Array).set(toFloat32(weights.get(name)!));
    }
  }

  /** A unit's tensors, and views of them for its members. */
  private allocate(unit: UpdateUnit, slot?: string): void {
    const nameOf = (name: string): string => (slot === undefined ? name : slotName(slot, name));
    this.written.push(nameOf(unit.name));
    for (const set of [this.current, this.spare]) {
      const data = new Float32Array(elementCount(unit.shape));
      set.set(nameOf(unit.name), new Tensor('float32', data, unit.shape as number[]));
      if (unit.members.length === 1) continue;
      this.joined.add(nameOf(unit.name));
      let start = 0;
      for (const { name, shape } of unit.members) {
        const end = start + elementCount(shape);
        set.set(nameOf(name), new Tensor('float32', data.subarray(start, end), shape as number[]));
        start = end;
      }
    }
  }

  /** What a graph reads under that name now; undefined where it is neither a weight nor the optimizer's. */
  get(name: string): Tensor | undefined {
    return this.current.get(name) ?? this.frozen.get(name);
  }

  /** Where a step writes. */
  nextFetches(): Record<string, Tensor | null> {
    return Object.fromEntries(this.written.map((name) => [nextName(name), this.spare.get(name)!]));
  }

  /** What was written last is current from here on. */
  swap(): void {
    [this.current, this.spare] = [this.spare, this.current];
  }

  /** Two zero tensors per unit, for the sum of the gradients of several batches. */
  accumulators(): [string, Tensor, Tensor][] {
    this.sums ??= this.units.map(({ name, shape }) => [accumulatedName(name), zeros(shape), zeros(shape)]);
    for (const [, sum] of this.sums) (sum.data as Float32Array).fill(0);
    return this.sums;
  }

  /** A copy of one weight, or of what the optimizer remembers of it; a frozen one is itself. */
  weight({ name, shape }: ParameterInfo, slot?: string): { learns: boolean; value: HostTensor } {
    const learned = this.current.get(slot === undefined ? name : slotName(slot, name));
    return learned
      ? { learns: true, value: { dtype: 'float32', shape, data: (learned.data as Float32Array).slice() } }
      : { learns: false, value: fromOrt(this.frozen.get(name)!) };
  }

  /** What a checkpoint holds, not copied. */
  state(): [string, HostTensor][] {
    return this.own().map(([name, tensor]) => [name, fromOrt(tensor)]);
  }

  /** Every parameter and every slot by itself, however they lie in memory. */
  private own(): [string, Tensor][] {
    return [...this.current].filter(([name]) => !this.joined.has(name));
  }

  /** Weights that do not learn, not copied. */
  get frozenWeights(): Weights {
    return new Map([...this.frozen].map(([name, tensor]) => [name, fromOrt(tensor)]));
  }

  restore(tensors: ReadonlyMap<string, HostTensor>): void {
    for (const [name, { data }] of this.own()) (data as Float32Array).set(tensors.get(name)!.data as Float32Array);
  }

  clear(): void {
    this.current.clear();
    this.spare.clear();
    this.frozen.clear();
    this.sums = undefined;
  }
}

const zeros = (shape: readonly number[]): Tensor =>
  new Tensor('float32', new Float32Array(elementCount(shape)), shape as number[]);
