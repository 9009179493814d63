import type { DecoderConfig } from '../folder/decoder-config.js';
import { placePrefix } from './prefix.js';
import type { Prefix } from './prefix.js';
import type { CacheBuffers } from './token-run.js';

/** Room for at least so many positions is added at a time, and a quarter of what is there, so that little is laid anew. */
const step = 64;

/** Keys and values of one text that grows, of each of the cache's tensors `[1, key/value heads, capacity, head size]`. */
export class AnswerCache implements CacheBuffers {
  readonly buffers = new Map<string, Float32Array>();
  #capacity = 0;

  /** With room for `positions`; a prefix's keys and values stand at their beginning. */
  constructor(
    names: readonly string[],
    private readonly config: Pick<DecoderConfig, 'keyValueHeads' | 'headSize'>,
    positions: number,
    prefix?: Prefix,
  ) {
    for (const name of names) this.buffers.set(name, new Float32Array(0));
    this.reserve(positions, 0);
    if (prefix !== undefined) placePrefix(prefix, this, config);
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Sees to it that there is room for so many positions, of which the first `kept` are taken along. */
  reserve(positions: number, kept: number): void {
    const old = this.#capacity;
    if (positions <= old) return;
    const { keyValueHeads, headSize } = this.config;
    const capacity = Math.ceil(Math.max(positions, 1.25 * old) / step) * step;
    for (const [name, buffer] of this.buffers) {
      const fresh = new Float32Array(keyValueHeads * capacity * headSize);
      for (let head = 0; head < keyValueHeads; head++) {
        const start = head * old * headSize;
        fresh.set(buffer.subarray(start, start + kept * headSize), head * capacity * headSize);
      }
      this.buffers.set(name, fresh);
    }
    this.#capacity = capacity;
  }
}
