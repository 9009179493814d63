import type { GraphBuilder, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { ChannelPeaks } from './channel-peaks.js';
import { servedValuePieces } from './packable-matrix.js';
import { PackingMemory } from './packed-form.js';
import { Joined } from './served-matrices.js';
import type { ServedMatrices } from './served-matrices.js';
import type { ValueStore } from './value-store.js';

/** What activations are rounded to: a byte around its middle. */
const activationRange = 127;
const activationZero = 128;

export interface IntegerOptions {
  readonly peaks: ChannelPeaks;
  /**
   * The largest code of a weight. 127, except on processors whose products of bytes add two of them in 16 bits (AVX2, AVX-512 without VNNI):
   * 2 x 255 x 63 is the most that fits there.
   */
  readonly weightRange: 127 | 63;
}

/**
 * The layers' products in 8-bit integers: each row of activations and each column of weights has one scale, so that a whole product runs in
 * integers, where `MatMulNBits` stops after every block of 32. What a row comes to does not depend on the rows beside it.
 *
 * A token's largest channels would leave the others few of the 255 steps. Weights can spare some of theirs: channel j of the activations is
 * divided, and row j of the weights multiplied, by sqrt(peak of the channel / peak of the row) (Xiao et al. 2023, SmoothQuant, eq. 4,
 * alpha 0.5). All other matrices, head and embeddings among them, are those of `others`.
 */
export class IntegerMatrices implements ServedMatrices {
  readonly #constants = new Map<string, Constants>();
  readonly #joined = new Joined();
  readonly #memory = new PackingMemory();
  /** What a step of the activations' codes is worth, and which of them is nothing. */
  readonly #step: Tensor;
  readonly #zero: Tensor;

  constructor(
    private readonly builder: GraphBuilder,
    private readonly weights: Weights,
    private readonly others: ServedMatrices,
    private readonly store: ValueStore,
    private readonly options: IntegerOptions,
  ) {
    this.#step = builder.constant(1 / activationRange);
    this.#zero = builder.constant(Uint8Array.of(activationZero), []);
  }

  products(names: readonly string[], x: Tensor): Tensor[] | undefined {
    const peaks = this.options.peaks.get(names[0]);
    if (peaks === undefined) return this.others.products(names, x);
    const { divisors, products } = this.#of(names, peaks);
    const smooth = x.mul(divisors);
    // Of a row of zeros too, zeros.
    const peak = smooth.abs().max(-1, true).maximum(1e-30);
    const [rounded] = this.builder.operator('QuantizeLinear', [smooth.div(peak), this.#step, this.#zero], {
      outputs: [{ dtype: 'uint8', shape: x.shape }],
    });
    return products.flatMap(({ codes, scales, columns }) => {
      const [product] = this.builder.operator('MatMulIntegerToFloat', [rounded, codes, this.#step, scales, this.#zero], {
        domain: 'com.microsoft',
        outputs: [{ dtype: 'float32', shape: [...x.shape.slice(0, -1), codes.shape[1]] }],
      });
      return this.#joined.split(product.mul(peak), columns);
    });
  }

  rows(name: string, ids: Tensor): Tensor | undefined {
    return this.others.rows(name, ids);
  }

  whole(parts: readonly Tensor[]): Tensor | undefined {
    return this.#joined.whole(parts) ?? this.others.whole(parts);
  }

  #of(names: readonly string[], peaks: Float32Array): Constants {
    const key = names.join(' ');
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const width = peaks.length;
    const columns = names.map((name) => this.weights.get(name)!.shape[0]);
    const values = this.#memory.floats('values', columns.reduce((a, b) => a + b) * width);
    let end = 0;
    for (const name of names)
      for (const piece of servedValuePieces(this.weights.get(name)!, this.#memory)) {
        values.set(piece, end);
        end += piece.length;
      }
    const factors = smoothingFactors(values, peaks);
    const divisors = this.builder.constant(
      factors.map((factor) => 1 / factor),
      [width],
    );
    // Fused attention reads queries, keys and values as they lie in one product; others would be copied apart.
    const isJoined = names[0].includes('.self_attn.');
    const groups = isJoined ? [columns] : columns.map((count) => [count]);
    let from = 0;
    const products = groups.map((group, i) => {
      const all = group.reduce((a, b) => a + b);
      const { codes, scales } = roundedColumns(values.subarray(from, from + all * width), factors, this.options.weightRange);
      from += all * width;
      const stored = this.store.open(this.builder, `${isJoined ? key : names[i]}.integers`, 'int8', [width, all]);
      stored.append(codes);
      return { columns: group, codes: stored.tensor(), scales: this.builder.constant(scales, [all]) };
    });
    const constants = { divisors, products };
    this.#constants.set(key, constants);
    return constants;
  }
}

interface Constants {
  /** By which the activations' channels are multiplied. `[in]` */
  readonly divisors: Tensor;
  readonly products: readonly {
    /** Columns of each matrix in it. */
    readonly columns: readonly number[];
    /** `[in, all columns]` */
    readonly codes: Tensor;
    /** `[all columns]` */
    readonly scales: Tensor;
  }[];
}

/** The least peak that a channel counts with, of a channel's in the middle: a text shows few of the channels that seldom are anything. */
const leastPeak = 0.1;

/** What each channel of the activations is divided by. 1 where the weights `[all out, in]` that read it are nothing. */
function smoothingFactors(values: Float32Array, peaks: Float32Array): Float32Array {
  const width = peaks.length;
  const least = leastPeak * peaks.toSorted()[Math.floor(width / 2)];
  const weightPeaks = new Float32Array(width);
  for (let from = 0; from < values.length; from += width)
    for (let k = 0; k < width; k++) {
      const size = Math.abs(values[from + k]);
      if (size > weightPeaks[k]) weightPeaks[k] = size;
    }
  return peaks.map((peak, k) => {
    const size = Math.max(peak, least);
    return size > 0 && weightPeaks[k] > 0 ? Math.sqrt(size / weightPeaks[k]) : 1;
  });
}

/** Rows that are turned at once, so that reading them along their columns stays in a cache. */
const turnedRows = 32;

/** A matrix `[all out, in]` with its channels multiplied by factors, as codes `[in, all out]` and a scale for each column. */
function roundedColumns(values: Float32Array, factors: Float32Array, range: number): { codes: Int8Array; scales: Float32Array } {
  const width = factors.length;
  const all = values.length / width;
  const codes = new Int8Array(values.length);
  const scales = new Float32Array(all);
  const scaled = new Float32Array(turnedRows * width);
  for (let from = 0; from < all; from += turnedRows) {
    const count = Math.min(turnedRows, all - from);
    for (let row = 0; row < count; row++) {
      const [at, to] = [(from + row) * width, row * width];
      let largest = 0;
      for (let k = 0; k < width; k++) {
        const value = values[at + k] * factors[k];
        scaled[to + k] = value;
        if (Math.abs(value) > largest) largest = Math.abs(value);
      }
      scales[from + row] = largest / range;
      const inverse = largest > 0 ? range / largest : 0;
      // Halves go up, as in Math.round, which is slow.
      for (let k = 0; k < width; k++) scaled[to + k] = Math.floor(scaled[to + k] * inverse + 0.5);
    }
    for (let k = 0; k < width; k++) for (let row = 0; row < count; row++) codes[k * all + from + row] = scaled[row * width + k];
  }
  return { codes, scales };
}
