import { sizeOf, type Dim } from './dim.js';
import { ShapeError, type Operand } from './errors.js';
import type { Tensor } from './tensor.js';

/** The shape that two shapes broadcast to (NumPy's rule; a named axis equals itself alone). `operands` are what an error names. */
export function broadcastShapes(
  operation: string,
  a: readonly Dim[],
  b: readonly Dim[],
  operands: readonly Operand[] = [a, b],
): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const left = a[i - rank + a.length] ?? 1;
    const right = b[i - rank + b.length] ?? 1;
    if (left === right || right === 1) return left;
    if (left === 1) return right;
    throw new ShapeError(operation, operands, `${left} and ${right} differ, and neither is 1`);
  });
}

/** Sums a gradient down to the shape of the operand that was broadcast. */
export function unbroadcast(gradient: Tensor, shape: readonly Dim[]): Tensor {
  const extra = gradient.rank - shape.length;
  const axes: number[] = [];
  for (let i = 0; i < gradient.rank; i++) if (i < extra || (shape[i - extra] === 1 && gradient.shape[i] !== 1)) axes.push(i);
  if (axes.length === 0) return gradient;
  return (isPrefix(axes) ? sumOfFirst(gradient, axes.length) : gradient.sum(axes, true)).reshape(shape);
}

const isPrefix = (axes: readonly number[]): boolean => axes.every((axis, i) => axis === i);

/** The sum over the first `count` axes. */
function sumOfFirst(x: Tensor, count: number): Tensor {
  const width = sizeOf(x.shape.slice(count));
  if (width === 1 || x.dtype !== 'float32') return x.sum([...Array(count).keys()], true);
  return sumOfRows(x.graph.filled(x.shape.slice(0, count), 1), x, width);
}

/** sum over rows r of factor_r x_r, `[1, width]`: a product, which is more than twice as fast as a reduction. */
export function sumOfRows(factors: Tensor, x: Tensor, width: Dim): Tensor {
  const rows = sizeOf(factors.shape);
  return factors.reshape([1, rows]).matmul(x.reshape([rows, width]));
}
