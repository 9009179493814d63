import type { Tensor } from '@user-llm/onnx-autograd';
import type { ServedMatrices } from './served-matrices.js';

/**
 * The largest magnitude of each channel of what the layers' products read, as seen on some text: `[in]` by the name of the first matrix that
 * is multiplied with it. A few channels of a language model are many times larger than the others, whatever it reads.
 */
export type ChannelPeaks = ReadonlyMap<string, Float32Array>;

const suffix = '.channel_peaks';

/** The peaks among a graph's outputs. */
export const peaksOf = (outputs: Readonly<Record<string, { readonly data: unknown }>>): ChannelPeaks =>
  new Map(Object.entries(outputs).map(([name, { data }]) => [name.slice(0, -suffix.length), data as Float32Array]));

/** Matrices of which it is watched what is multiplied with those of the layers. */
export class WatchedMatrices implements ServedMatrices {
  /** What `peaksOf` reads. */
  readonly outputs: Record<string, Tensor> = {};
  readonly #seen = new Set<Tensor>();

  constructor(private readonly matrices: ServedMatrices) {}

  products(names: readonly string[], x: Tensor): Tensor[] | undefined {
    if (names[0].startsWith('model.layers.') && !this.#seen.has(x)) {
      this.#seen.add(x);
      this.outputs[names[0] + suffix] = x.abs().max([0, 1]);
    }
    return this.matrices.products(names, x);
  }

  rows(name: string, ids: Tensor): Tensor | undefined {
    return this.matrices.rows(name, ids);
  }

  whole(parts: readonly Tensor[]): Tensor | undefined {
    return this.matrices.whole(parts);
  }
}
