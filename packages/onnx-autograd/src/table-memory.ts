import { Tensor } from 'onnxruntime-node';
import { FeedError } from './errors.js';
import type { HostTensor } from './host-tensor.js';
import { averageSlot } from './optimizers.js';
import type { Feeds } from './session.js';
import type { TableInfo } from './table.js';
import { accumulatedName, nextName, slotName, touchesName } from './training-graph.js';

/**
 * One table in a training run. All rows and the optimizer's memory of them lie in flat arrays, once. A step gathers the rows that
 * its feeds name into small matrices, its graph makes the next ones, and `commit` puts them back. Rows that no feed names are
 * neither read nor changed.
 */
export class TableMemory {
  /** The values, and one array of the same size per slot of the optimizer, by the names that the graph gives them. */
  private readonly arrays = new Map<string, Float32Array>();
  /** How many steps have touched each row. */
  private readonly touches: Int32Array;
  /** The rows of this step, and where each one is among them: valid where `rows[position[id]]` is the id, so never cleared. */
  private rows = new Int32Array(0);
  private count = 0;
  private readonly position: Int32Array;
  private readonly gathered = new Map<string, Tensor>();
  private readonly next = new Map<string, Tensor>();
  private readonly buffers = new Map<string, Float32Array>();

  /**
   * @param lookups those of the table that the step reads
   * @param first all values [rows x width]: kept, not copied
   */
  constructor(
    readonly info: TableInfo,
    readonly lookups: TableInfo['lookups'],
    readonly learns: boolean,
    slots: readonly string[],
    first: Float32Array,
  ) {
    const [rows] = info.shape;
    this.arrays.set(info.name, first);
    if (learns) for (const slot of slots) this.arrays.set(slotName(slot, info.name), new Float32Array(first.length));
    this.touches = new Int32Array(learns ? rows : 0);
    this.position = new Int32Array(rows);
  }

  /** Rows to make room for: as many as ids are fed, so that one set of feeds' sizes is one set of sizes for the graph too. */
  private room(batches: readonly Feeds[]): number {
    let ids = 0;
    for (const feeds of batches) for (const input of this.lookups.keys()) ids += feeds[input].data.length;
    return Math.max(1, Math.min(ids, this.info.shape[0]));
  }

  /** The size of the rows' axis for such feeds. */
  binding(batches: readonly Feeds[]): Record<string, number> {
    return { [this.info.axis]: this.room(batches) };
  }

  /**
   * Begins a step: gathers the rows that the batches name.
   *
   * @param exact make room for those rows alone, however many they are; otherwise as `binding` says
   * @returns the size of the rows' axis
   */
  gather(batches: readonly Feeds[], exact: boolean): Record<string, number> {
    const most = this.room(batches);
    if (this.rows.length < most) this.rows = new Int32Array(most);
    this.count = 0;
    for (const feeds of batches) for (const name of this.lookups.keys()) this.collect(name, feeds[name].data as Int32Array);
    const size = exact ? Math.max(1, this.count) : most;
    const { name } = this.info;
    const width = this.info.shape[1];
    for (const [array, all] of this.arrays) {
      const data = this.buffer(array, size * width);
      copyRows(all, data, width, this.rows, this.count);
      data.fill(0, this.count * width);
      this.gathered.set(array, new Tensor('float32', data, [size, width]));
      if (this.learns)
        this.next.set(nextName(array), new Tensor('float32', this.buffer(nextName(array), size * width), [size, width]));
    }
    if (this.learns) {
      const steps = this.buffer(touchesName(name), size).fill(1);
      for (let i = 0; i < this.count; i++) steps[i] = this.touches[this.rows[i]] + 1;
      this.gathered.set(touchesName(name), new Tensor('float32', steps, [size, 1]));
    }
    return { [this.info.axis]: size };
  }

  private collect(input: string, ids: Int32Array): void {
    const { rows, position } = this;
    let { count } = this;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      const at = position[id];
      if (at === undefined)
        throw new FeedError(
          input,
          `has the id ${id} at element ${i}, and the table '${this.info.name}' has rows 0 to ${this.info.shape[0] - 1}`,
        );
      if (at < count && rows[at] === id) continue;
      position[id] = count;
      rows[count++] = id;
    }
    this.count = count;
  }

  /** A buffer as large as the largest so far, cut to the size. */
  private buffer(name: string, length: number): Float32Array {
    let known = this.buffers.get(name);
    if (!known || known.length < length) this.buffers.set(name, (known = new Float32Array(length)));
    return known.subarray(0, length);
  }

  /** What a graph of this step reads under that name; undefined where it is not of this table. */
  get(name: string): Tensor | undefined {
    return this.gathered.get(name);
  }

  /** Where the rows of a batch's ids are among those of the step. */
  positions(feeds: Feeds): Record<string, Tensor> {
    const result: Record<string, Tensor> = {};
    for (const [input, { name }] of this.lookups)
      if (feeds[input])
        result[name] = new Tensor(
          'int32',
          (feeds[input].data as Int32Array).map((id) => this.position[id]),
          feeds[input].shape as number[],
        );
    return result;
  }

  nextFetches(): Record<string, Tensor | null> {
    return Object.fromEntries(this.next);
  }

  /** Two zero matrices for the sum of this step's gradients; empty for a frozen table. */
  accumulators(): [string, Tensor, Tensor][] {
    if (!this.learns) return [];
    const name = accumulatedName(this.info.name);
    const dims = this.gathered.get(this.info.name)!.dims as number[];
    const zeros = (buffer: string): Tensor => new Tensor('float32', this.buffer(buffer, dims[0] * dims[1]).fill(0), dims);
    return [[name, zeros(name), zeros(nextName(name))]];
  }

  /** Puts the next rows back: the step is done. */
  commit(): void {
    if (!this.learns) return;
    const width = this.info.shape[1];
    for (const [name, all] of this.arrays) {
      const data = this.next.get(nextName(name))!.data as Float32Array;
      for (let i = 0; i < this.count; i++) {
        const to = this.rows[i] * width;
        const from = i * width;
        for (let j = 0; j < width; j++) all[to + j] = data[from + j];
      }
    }
    for (let i = 0; i < this.count; i++) this.touches[this.rows[i]]++;
  }

  /** All rows, not copied. */
  get values(): HostTensor {
    return { dtype: 'float32', shape: this.info.shape, data: this.arrays.get(this.info.name)! };
  }

  /** A copy of all rows, or of what the optimizer remembers of them; the average of a row that no step has touched is the row. */
  copy(slot?: string): HostTensor {
    const { name, shape } = this.info;
    const values = this.arrays.get(name)!;
    const remembered = slot === undefined || !this.learns ? values : this.arrays.get(slotName(slot, name))!;
    const data = remembered.slice();
    const width = shape[1];
    if (slot === averageSlot)
      this.touches.forEach(
        (touches, row) => touches === 0 && data.set(values.subarray(row * width, (row + 1) * width), row * width),
      );
    return { dtype: 'float32', shape, data };
  }

  /** What a checkpoint holds, not copied. */
  state(): [string, HostTensor][] {
    if (!this.learns) return [];
    return [
      ...[...this.arrays].map(([name, data]): [string, HostTensor] => [name, { dtype: 'float32', shape: this.info.shape, data }]),
      [touchesName(this.info.name), { dtype: 'int32', shape: [this.touches.length], data: this.touches }],
    ];
  }

  restore(tensors: ReadonlyMap<string, HostTensor>): void {
    for (const [name, { data }] of this.state()) (data as Float32Array).set(tensors.get(name)!.data as Float32Array);
  }

  /** Lets go of all but the values' shape; the trainer is done. */
  clear(): void {
    this.arrays.clear();
    this.gathered.clear();
    this.next.clear();
    this.buffers.clear();
  }
}

function copyRows(all: Float32Array, into: Float32Array, width: number, rows: Int32Array, count: number): void {
  for (let i = 0; i < count; i++) {
    const from = rows[i] * width;
    const to = i * width;
    for (let j = 0; j < width; j++) into[to + j] = all[from + j];
  }
}
