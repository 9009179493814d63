import { ancestors } from './branches.js';
import type { Branches, Segment } from './branches.js';

/** Slots that there are from the beginning: enough for a beam over titles, and little beside a prompt. */
const firstRoom = 256;

/**
 * The buffers that a model's runs read and write: of each of the cache's tensors `[key/value heads, prompt + room, head size]`, the prompt's
 * keys and values once, and behind them those of the tokens that texts consist of, each once however many texts go through it.
 */
export class BranchCache {
  readonly buffers = new Map<string, Float32Array>();
  #room = firstRoom;
  #used = 0;
  /** What lies in the slots; more than is needed, as clearing up has its price too. */
  #placed: Branches[] = [];

  constructor(
    names: readonly string[],
    readonly promptLength: number,
    private readonly heads: number,
    private readonly headSize: number,
  ) {
    for (const name of names) this.buffers.set(name, new Float32Array(heads * this.capacity * headSize));
  }

  /** Positions of the buffers. */
  get capacity(): number {
    return this.promptLength + this.#room;
  }

  /** Sees to it that the texts ending in `ends` are in the buffers, with room for `count` tokens more; how many slots are taken then. */
  place(last: Branches | undefined, ends: Int32Array, count: number): number {
    const needed = ancestors(last, ends);
    const tokens = needed.reduce((sum, { rows }) => sum + rows.length, 0);
    const isThere = needed.every(({ branches, rows }) => rows.every((row) => branches.slots[row] >= 0));
    if (!isThere || this.#used > 2 * tokens + count || this.#used + count > this.#room) this.#lay(needed, tokens, count);
    return this.#used;
  }

  /** Takes the keys and values that a step wrote behind the taken slots. */
  take(branches: Branches): void {
    const { rows } = branches;
    const length = rows * this.headSize;
    for (const [name, buffer] of this.buffers) {
      const values = new Float32Array(this.heads * length);
      for (let head = 0; head < this.heads; head++) {
        const start = this.#at(head, this.#used);
        values.set(buffer.subarray(start, start + length), head * length);
      }
      branches.values.set(name, values);
    }
    for (let row = 0; row < rows; row++) branches.slots[row] = this.#used++;
    this.#placed.push(branches);
  }

  /** Lays the texts anew, the first tokens first. */
  #lay(needed: readonly Segment[], tokens: number, count: number): void {
    if (tokens + count > this.#room) this.#grow(tokens + count);
    for (const branches of this.#placed) branches.slots.fill(-1);
    this.#placed = [];
    this.#used = 0;
    for (const { branches, rows } of [...needed].reverse()) {
      for (const [name, buffer] of this.buffers) this.#copy(branches, rows, branches.values.get(name)!, buffer);
      for (const row of rows) branches.slots[row] = this.#used++;
      this.#placed.push(branches);
    }
  }

  #copy(branches: Branches, rows: Int32Array, values: Float32Array, buffer: Float32Array): void {
    const { headSize } = this;
    for (let head = 0; head < this.heads; head++) {
      let to = this.#at(head, this.#used);
      for (const row of rows) {
        let from = (head * branches.rows + row) * headSize;
        for (const end = from + headSize; from < end;) buffer[to++] = values[from++];
      }
    }
  }

  /** Larger buffers, with the prompt alone in them. */
  #grow(room: number): void {
    const { heads, headSize } = this;
    const part = this.promptLength * headSize;
    const before = this.capacity * headSize;
    this.#room = 2 * room;
    for (const [name, old] of this.buffers) {
      const buffer = new Float32Array(heads * this.capacity * headSize);
      for (let head = 0; head < heads; head++) {
        buffer.set(old.subarray(head * before, head * before + part), head * this.capacity * headSize);
      }
      this.buffers.set(name, buffer);
    }
  }

  /** Where a slot of a head begins. */
  #at(head: number, slot: number): number {
    return (head * this.capacity + this.promptLength + slot) * this.headSize;
  }
}
