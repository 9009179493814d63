import { broadcastShapes, unbroadcast } from '../broadcast.js';
import { addDims, canonical, divideDims, sameShape, sizeOf, subtractDims, type Dim } from '../dim.js';
import { ShapeError } from '../errors.js';
import type { GradientRule } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';

const axisOf = (operation: string, x: Tensor, axis: number, rank = x.rank): number => {
  const positive = axis < 0 ? axis + rank : axis;
  if (positive < 0 || positive >= rank) throw new ShapeError(operation, [x], `there is no axis ${axis}`);
  return positive;
};

export function reshape(x: Tensor, target: readonly Dim[]): Tensor {
  const total = sizeOf(x.shape);
  const known = sizeOf(target.filter((dim) => dim !== -1));
  const shape = target.map((dim) => {
    if (dim !== -1) return canonical(dim);
    const rest = divideDims(total, known);
    if (rest === undefined) throw new ShapeError('reshape', [x, target], `${total} elements do not divide by ${known}`);
    return rest;
  });
  if (sizeOf(shape) !== total) throw new ShapeError('reshape', [x, target], `${total} elements become ${sizeOf(shape)}`);
  if (sameShape(shape, x.shape)) return x;
  return x.graph.operator('Reshape', [x, x.graph.dims(shape)], { outputs: [{ dtype: x.dtype, shape }] })[0];
}

export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const perm = permutation?.map((axis) => axisOf('transpose', x, axis)) ?? x.shape.map((_, i) => x.rank - 1 - i);
  if (perm.length !== x.rank || new Set(perm).size !== x.rank)
    throw new ShapeError('transpose', [x], `[${perm}] is no permutation of its axes`);
  if (perm.every((axis, i) => axis === i)) return x;
  return x.graph.operator('Transpose', [x], {
    attributes: { perm },
    outputs: [{ dtype: x.dtype, shape: perm.map((axis) => x.shape[axis]) }],
  })[0];
}

export function expand(x: Tensor, target: readonly Dim[]): Tensor {
  const shape = target.map(canonical);
  if (!sameShape(broadcastShapes('expand', x.shape, shape, [x, target]), shape))
    throw new ShapeError('expand', [x, target], 'an axis can grow from 1 only');
  if (sameShape(shape, x.shape)) return x;
  return x.graph.operator('Expand', [x, x.graph.dims(shape)], { outputs: [{ dtype: x.dtype, shape }] })[0];
}

export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = axisOf('unsqueeze', x, axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

export function squeeze(x: Tensor, axis: number): Tensor {
  const at = axisOf('squeeze', x, axis);
  if (x.shape[at] !== 1) throw new ShapeError('squeeze', [x], `axis ${axis} is ${x.shape[at]}, not 1`);
  return reshape(
    x,
    x.shape.filter((_, i) => i !== at),
  );
}

export function slice(x: Tensor, axis: number, start: Dim, end: Dim): Tensor {
  const at = axisOf('slice', x, axis);
  const size = x.shape[at];
  if (start === 0 && canonical(end) === size) return x;
  if (typeof start === 'number' && start < 0) throw new ShapeError('slice', [x], `a start of ${start} is before axis ${axis}`);
  const length = subtractDims(end, start);
  if (typeof length === 'number' && length < 0) throw new ShapeError('slice', [x], `${start}..${end} of axis ${axis} is empty`);
  const past = subtractDims(end, size);
  if (typeof past === 'number' && past > 0) throw new ShapeError('slice', [x], `${start}..${end} runs past axis ${axis}`);
  const shape = x.shape.map((dim, i) => (i === at ? length : dim));
  return x.graph.operator('Slice', [x, x.graph.dims([start]), x.graph.dims([end]), x.graph.constant([at], [1], 'int64')], {
    outputs: [{ dtype: x.dtype, shape }],
  })[0];
}

export function split(x: Tensor, axis: number, sizes: readonly number[]): Tensor[] {
  const at = axisOf('split', x, axis);
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total !== x.shape[at]) throw new ShapeError('split', [x], `parts of ${sizes.join(' + ')} do not make axis ${axis}`);
  if (sizes.length === 1) return [x];
  return x.graph.operator('Split', [x, x.graph.constant(sizes, [sizes.length], 'int64')], {
    attributes: { axis: at },
    outputs: sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((dim, i) => (i === at ? size : dim)) })),
  });
}

/** Tensors one after another along an axis; the other axes agree. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  const [first] = tensors;
  if (tensors.length === 1) return first;
  const at = axisOf('concat', first, axis);
  for (const tensor of tensors)
    if (tensor.rank !== first.rank || tensor.shape.some((dim, i) => i !== at && dim !== first.shape[i]))
      throw new ShapeError('concat', [first, tensor], `they differ off axis ${axis}`);
  const shape = first.shape.map((dim, i) => (i === at ? tensors.map((tensor) => tensor.shape[at]).reduce(addDims) : dim));
  return first.graph.operator('Concat', tensors, { attributes: { axis: at }, outputs: [{ dtype: first.dtype, shape }] })[0];
}

export const shapingRules: Record<string, GradientRule> = {
  Reshape: ({ inputs: [x] }, [g]) => [reshape(g!, x!.shape), null],
  Transpose: ({ attributes }, [g]) => {
    const perm = attributes.perm as number[];
    return [
      transpose(
        g!,
        perm.map((_, i) => perm.indexOf(i)),
      ),
    ];
  },
  Expand: ({ inputs: [x] }, [g]) => [unbroadcast(g!, x!.shape), null],
  Slice: ({ inputs: [x, starts, , axes] }, [g]) => {
    const axis = Number((axes!.producer!.payload as { data: BigInt64Array }).data[0]);
    const start = (starts!.producer!.payload as { dims: readonly Dim[] }).dims[0];
    const before = x!.shape.map((_, i) => (i === axis ? start : 0));
    const after = x!.shape.map((dim, i) => (i === axis ? subtractDims(subtractDims(dim, start), g!.shape[i]) : 0));
    const pads = g!.graph.dims([...before, ...after]);
    return [
      g!.graph.operator('Pad', [g!, pads], {
        attributes: { mode: 'constant' },
        outputs: [{ dtype: g!.dtype, shape: x!.shape }],
      })[0],
      null,
      null,
      null,
    ];
  },
  Split: ({ outputs, attributes }, upstream) => [
    concat(
      upstream.map((g, i) => g ?? outputs[i].graph.filled(outputs[i].shape)),
      attributes.axis as number,
    ),
    null,
  ],
  Concat: ({ inputs, attributes }, [g], needed) => {
    const axis = attributes.axis as number;
    const sizes = inputs.map((input) => input!.shape[axis]);
    if (sizes.every((size) => typeof size === 'number') && needed.every(Boolean)) return split(g!, axis, sizes as number[]);
    let start: Dim = 0;
    return inputs.map((_, i) => {
      const end: Dim = addDims(start, sizes[i]);
      const part = needed[i] ? slice(g!, axis, start, end) : null;
      start = end;
      return part;
    });
  },
  Pad: ({ inputs: [x, pads] }, [g]) => {
    const { dims } = pads!.producer!.payload as { dims: readonly Dim[] };
    let result = g!;
    x!.shape.forEach((dim, i) => {
      if (dim !== g!.shape[i]) result = slice(result, i, dims[i], addDims(dims[i], dim));
    });
    return [result, null];
  },
};
