import { bind, type Bindings, type Dim } from './dim.js';
import { AutogradError } from './errors.js';
import { elementCount } from './host-tensor.js';
import { macroDomain } from './macro.js';
import { macros } from './macros.js';
import { reachable } from './reachable.js';
import type { Tensor } from './tensor.js';

/**
 * Floating-point operations of the matrix products that run for the outputs, counted as 2 m n k.
 *
 * @param bindings sizes of every named axis
 */
export function matrixFlops(outputs: Iterable<Tensor>, bindings: Bindings): number {
  let total = 0;
  for (const node of reachable(outputs).nodes) {
    const [a, b] = node.inputs;
    let size: Dim[];
    let products = 1;
    if (node.domain === macroDomain) {
      ({ products } = macros[node.operation]);
      size = [...a!.shape, b!.shape[0]];
    } else if (['MatMul', 'Gemm', 'FusedMatMul', 'MatMulNBits'].includes(node.operation)) {
      size = [...node.outputs[0].shape, node.attributes.transA === 1 ? a!.shape.at(-2)! : a!.shape.at(-1)!];
    } else continue;
    const bound = size.map((dim) => bind(dim, bindings));
    if (bound.some((dim) => typeof dim !== 'number'))
      throw new AutogradError(`${node.name}: give a size for every named axis; [${bound}] is left`);
    total += 2 * products * elementCount(bound as number[]);
  }
  return total;
}
