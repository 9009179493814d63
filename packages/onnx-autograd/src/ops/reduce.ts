import { sizeOf, type Dim } from '../dim.js';
import { ShapeError } from '../errors.js';
import type { GradientRule, Node } from '../graph-builder.js';
import { isFloat } from '../host-tensor.js';
import type { Tensor } from '../tensor.js';
import { where } from './elementwise.js';

function normalizeAxes(operation: string, x: Tensor, axes?: number | readonly number[]): number[] {
  const list = axes === undefined ? x.shape.map((_, i) => i) : typeof axes === 'number' ? [axes] : [...axes];
  const positives = list.map((axis) => {
    const positive = axis < 0 ? axis + x.rank : axis;
    if (positive < 0 || positive >= x.rank) throw new ShapeError(operation, [x], `there is no axis ${axis}`);
    return positive;
  });
  // onnxruntime reduces over an axis once, and a mean would divide by its size twice.
  if (new Set(positives).size < positives.length) throw new ShapeError(operation, [x], `[${list}] names an axis twice`);
  return positives;
}

function reduce(
  operation: 'ReduceSum' | 'ReduceMax',
  x: Tensor,
  axes: number | readonly number[] | undefined,
  keepDims: boolean,
): Tensor {
  const list = normalizeAxes(operation, x, axes);
  if (list.length === 0) return x;
  const shape = keepDims ? x.shape.map((dim, i) => (list.includes(i) ? 1 : dim)) : x.shape.filter((_, i) => !list.includes(i));
  return x.graph.operator(operation, [x, x.graph.constant(list, [list.length], 'int64')], {
    attributes: { keepdims: keepDims ? 1 : 0 },
    outputs: [{ dtype: x.dtype, shape }],
  })[0];
}

export const sum = (x: Tensor, axes: number | readonly number[] | undefined, keepDims: boolean): Tensor =>
  reduce('ReduceSum', x, axes, keepDims);
export const max = (x: Tensor, axes: number | readonly number[] | undefined, keepDims: boolean): Tensor =>
  reduce('ReduceMax', x, axes, keepDims);

export function mean(x: Tensor, axes: number | readonly number[] | undefined, keepDims: boolean): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError('mean', [x], `${x.dtype} holds no fraction; cast it to float32 first`);
  const list = normalizeAxes('mean', x, axes);
  const count = sizeOf(list.map((axis) => x.shape[axis]));
  const total = sum(x, list, keepDims);
  return typeof count === 'number' ? total.mul(1 / count) : total.div(x.graph.dimension(count));
}

/** The shape of the reduced tensor with its reduced axes kept as 1. */
function keptShape({ inputs: [x, axes], outputs: [y] }: Node): Dim[] {
  if (y.rank === x!.rank) return [...y.shape];
  const payload = axes!.producer?.payload;
  if (payload?.kind !== 'constant') throw new Error('internal: reduction axes are constants');
  const list = Array.from(payload.data as BigInt64Array, Number);
  return x!.shape.map((dim, i) => (list.includes(i) ? 1 : dim));
}

export const reduceRules: Record<string, GradientRule> = {
  ReduceSum: (node, [g]) => [g!.reshape(keptShape(node)).expand(node.inputs[0]!.shape), null],
  ReduceMax: (node, [g]) => {
    const [x] = node.inputs;
    const kept = keptShape(node);
    const hit = x!.equal(node.outputs[0].reshape(kept));
    const share = g!.reshape(kept).div(
      hit.cast('float32').sum(
        kept.flatMap((dim, i) => (dim === x!.shape[i] ? [] : [i])),
        true,
      ),
    );
    return [where(hit, share, x!.graph.constant(0)), null];
  },
};
