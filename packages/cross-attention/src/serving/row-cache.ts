import type { DecoderConfig } from '../folder/decoder-config.js';
import type { CacheBuffers } from './token-run.js';

/** Positions are added so many at a time at least, and a quarter of what is there, so that rows are seldom laid anew. */
const step = 64;

/**
 * Keys and values of texts of different lengths that grow together, one row each: of each of the cache's tensors
 * `[rows, key/value heads, capacity, head size]`. Rows that leave give their place to the last one, so that the others are always the
 * first ones.
 */
export class RowCache implements CacheBuffers {
  readonly buffers = new Map<string, Float32Array>();
  /** Positions of each row. `[rows]` */
  readonly lengths: number[] = [];
  #capacity = 0;
  #places = 0;

  constructor(
    private readonly names: readonly string[],
    private readonly config: Pick<DecoderConfig, 'keyValueHeads' | 'headSize'>,
  ) {
    for (const name of names) this.buffers.set(name, new Float32Array(0));
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Takes in the first `length` positions of a row that was run by itself, as the last row. */
  add(row: CacheBuffers, length: number): void {
    const place = this.lengths.length;
    this.#reserve(place + 1, length + 1);
    this.lengths.push(length);
    for (const name of this.names) this.#copyRow(row.buffers.get(name)!, row.capacity, 0, this.buffers.get(name)!, place);
  }

  /** Removes a row; the last one takes its place. */
  remove(row: number): void {
    const length = this.lengths.pop()!;
    const last = this.lengths.length;
    if (row !== last) {
      this.lengths[row] = length;
      for (const buffer of this.buffers.values()) this.#copyRow(buffer, this.#capacity, last, buffer, row);
    }
    // What a busy hour needed is not kept for ever.
    if (this.lengths.length === 0) this.#shape(0, 0);
  }

  /** Sees to it that every row has room for one position more. */
  grow(): void {
    this.#reserve(this.lengths.length, Math.max(...this.lengths) + 1);
  }

  /** One position was written to every row. */
  advance(): void {
    for (let row = 0; row < this.lengths.length; row++) this.lengths[row]++;
  }

  #reserve(rows: number, positions: number): void {
    if (rows <= this.#places && positions <= this.#capacity) return;
    const wanted = positions <= this.#capacity ? this.#capacity : Math.max(positions, 1.25 * this.#capacity);
    const capacity = Math.ceil(wanted / step) * step;
    this.#shape(rows > this.#places ? Math.max(rows, 2 * this.#places) : this.#places, capacity);
  }

  /** Lays the rows anew. Where the memory for that cannot be had it throws, and all stays as it was: buffers are only read by their layout. */
  #shape(places: number, capacity: number): void {
    const { keyValueHeads, headSize } = this.config;
    const fresh = this.names.map((name) => [name, new Float32Array(places * keyValueHeads * capacity * headSize)] as const);
    const before = new Map(this.buffers);
    const old = this.#capacity;
    this.#places = places;
    this.#capacity = capacity;
    for (const [name, buffer] of fresh) {
      this.buffers.set(name, buffer);
      for (let row = 0; row < this.lengths.length; row++) this.#copyRow(before.get(name)!, old, row, buffer, row);
    }
  }

  /** Copies a row's positions, `lengths[to]` of them, from a buffer of another capacity. */
  #copyRow(source: Float32Array, capacity: number, from: number, target: Float32Array, to: number): void {
    const { keyValueHeads, headSize } = this.config;
    const size = this.lengths[to] * headSize;
    for (let head = 0; head < keyValueHeads; head++) {
      const start = (from * keyValueHeads + head) * capacity * headSize;
      target.set(source.subarray(start, start + size), (to * keyValueHeads + head) * this.#capacity * headSize);
    }
  }
}
