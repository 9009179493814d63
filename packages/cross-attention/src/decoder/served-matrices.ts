import type { Tensor } from '@user-llm/onnx-autograd';
import type { DecoderMatrices } from './decoder-graph.js';

/** A decoder's matrices in an inference graph. */
export interface ServedMatrices extends DecoderMatrices {
  /** What was split into exactly these tensors, so that an operator may take them as they lay; undefined for others. */
  whole(parts: readonly Tensor[]): Tensor | undefined;
}

/** Products of several matrices that were computed as one. */
export class Joined {
  /** By the first of their parts. */
  readonly #split = new Map<Tensor, { readonly whole: Tensor; readonly parts: readonly Tensor[] }>();

  /** Parts of so many columns each. */
  split(product: Tensor, columns: readonly number[]): Tensor[] {
    if (columns.length === 1) return [product];
    const { graph: builder, shape } = product;
    const parts = builder.operator('Split', [product, builder.constant(columns, [columns.length], 'int64')], {
      attributes: { axis: -1 },
      outputs: columns.map((size) => ({ dtype: 'float32', shape: [...shape.slice(0, -1), size] })),
    });
    this.#split.set(parts[0], { whole: product, parts });
    return parts;
  }

  whole(parts: readonly Tensor[]): Tensor | undefined {
    const known = this.#split.get(parts[0]);
    return known?.parts.length === parts.length && known.parts.every((part, i) => part === parts[i]) ? known.whole : undefined;
  }
}
