import type { HostTensor } from '@user-llm/onnx-autograd';
import { solve } from './ridge-regression.js';

/** The normal equations of a ridge regression of outputs on inputs, from batches. */
export class RidgeSums {
  readonly #gram: Float64Array;
  readonly #products: Float64Array;
  #examples = 0;

  constructor(
    private readonly width: number,
    private readonly outputs: number,
  ) {
    this.#gram = new Float64Array(width * width);
    this.#products = new Float64Array(width * outputs);
  }

  /** How many examples were added. */
  get examples(): number {
    return this.#examples;
  }

  /** A batch: `inputs` [n, width], and the transpose of these times the outputs, `products` [width, outputs]. */
  add(inputs: HostTensor, products: HostTensor): void {
    const { width } = this;
    const values = inputs.data as Float32Array;
    for (let row = 0; row < values.length; row += width) {
      // Of the symmetric products the lower half.
      for (let i = 0; i < width; i++) {
        const value = values[row + i];
        for (let j = 0; j <= i; j++) this.#gram[i * width + j] += value * values[row + j];
      }
    }
    const added = products.data as Float32Array;
    for (let i = 0; i < added.length; i++) this.#products[i] += added[i];
    this.#examples += inputs.shape[0];
  }

  /** The coefficients, `[outputs, width]` float32. @param strength of the penalty, next to the mean square of an input's number */
  solution(strength: number): HostTensor {
    const { width, outputs } = this;
    let trace = 0;
    for (let i = 0; i < width; i++) trace += this.#gram[i * width + i];
    const solution = solve(this.#gram.slice(), this.#products.slice(), width, outputs, (strength * trace) / width);
    const data = new Float32Array(outputs * width);
    for (let i = 0; i < width; i++)
      for (let output = 0; output < outputs; output++) data[output * width + i] = solution[i * outputs + output];
    return { dtype: 'float32', shape: [outputs, width], data };
  }
}
