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
    /** Most rows that there will be at once. */
    private readonly most: number,
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
    this.#shrink();
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
    const capacity = positions <= this.#capacity ? this.#capacity : inSteps(Math.max(positions, 1.25 * this.#capacity));
    const places = rows <= this.#places ? this.#places : Math.max(rows, Math.min(this.most, 2 * this.#places));
    this.#shape(places, capacity);
  }

  /**
   * Gives back what a long text or a busy hour needed: a run takes the longer, the more positions there are in a row. Only from a third on,
   * and with room left, so that texts which come and go do not have the rows laid anew each time.
   */
  #shrink(): void {
    const rows = this.lengths.length;
    const positions = rows === 0 ? 0 : Math.max(...this.lengths) + 1;
    const places = 3 * rows < this.#places ? 2 * rows : this.#places;
    const capacity = 3 * positions < this.#capacity ? Math.min(this.#capacity, inSteps(1.25 * positions)) : this.#capacity;
    if (places === this.#places && capacity === this.#capacity) return;
    try {
      this.#shape(places, capacity);
    } catch {
      // There is no memory for the smaller place beside the larger one, which does as well.
    }
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

const inSteps = (positions: number) => Math.ceil(positions / step) * step;
