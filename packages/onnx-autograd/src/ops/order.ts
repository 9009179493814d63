import type { Tensor } from '../tensor.js';
import { where } from './elementwise.js';

/** The value, but made no earlier than some others: onnxruntime runs nodes in a depth-first order of what they read. Costs a pass over the value. */
export function after(value: Tensor, earlier: readonly Tensor[]): Tensor {
  if (earlier.length === 0) return value;
  const corner = earlier.map(firstElement).reduce((a, b) => a.add(b));
  return where(value.graph.constant([1], [], 'bool'), value, corner);
}

function firstElement(x: Tensor): Tensor {
  let corner = x;
  x.shape.forEach((_, axis) => (corner = corner.slice(axis, 0, 1)));
  return corner.reshape([]);
}
