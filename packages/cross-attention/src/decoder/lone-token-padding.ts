import type { Dim, GraphBuilder, Tensor } from '@user-llm/onnx-autograd';

/**
 * The tokens that a graph computes with: those that it is given, and beside a lone one the same once more, whose values nobody reads.
 *
 * With AVX2 alone onnxruntime multiplies one row of numbers with the 4-bit codes of a matrix in another order than several rows. The
 * difference is a rounding of float32; but each product then rounds its input to bytes, some numbers to the next one, and after thirty
 * layers a token's logits are not those that it has among others. An answer must not depend on who else is asking.
 */
export class LoneTokenPadding {
  /** Where the values of each computed token are, and of each given one. */
  readonly #padded: Tensor;
  readonly #given: Tensor;

  /** For `rows` texts with `sequence_length` new tokens each. */
  constructor(builder: GraphBuilder, rows: Dim) {
    const scalar = (value: number) => builder.constant(value, [], 'int64');
    const count = builder.dims(['sequence_length']).reshape([]);
    const range = (limit: Tensor, dim: string) =>
      builder.operator('Range', [scalar(0), limit, scalar(1)], { outputs: [{ dtype: 'int64', shape: [dim] }] })[0];
    const [tokens] = builder.operator('ReduceProd', [builder.dims([rows, 'sequence_length'])], {
      attributes: { keepdims: 0 },
      outputs: [{ dtype: 'int64', shape: [] }],
    });
    const [isLone] = builder.operator('Equal', [tokens, scalar(1)], { outputs: [{ dtype: 'bool', shape: [] }] });
    const computed = range(count.add(isLone.cast('int64')), 'computed_length');
    [this.#padded] = builder.operator('Mod', [computed, count], { outputs: [computed] });
    this.#given = range(count, 'sequence_length');
  }

  /** `[B, S, ...]` with a lone token's values twice. */
  readonly pad = (x: Tensor): Tensor => tokensAt(x, this.#padded);

  /** `[B, S, ...]` of the tokens that were given. */
  readonly unpad = (x: Tensor): Tensor => tokensAt(x, this.#given);
}

const tokensAt = (x: Tensor, places: Tensor): Tensor =>
  x.graph.operator('Gather', [x, places], {
    attributes: { axis: 1 },
    outputs: [{ dtype: x.dtype, shape: [x.shape[0], ...places.shape, ...x.shape.slice(2)] }],
  })[0];
