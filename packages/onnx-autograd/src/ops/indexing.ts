import { sizeOf } from '../dim.js';
import { ShapeError } from '../errors.js';
import type { GradientRule } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';

const isIndex = (operation: string, x: Tensor, indices: Tensor): void => {
  if (indices.dtype !== 'int32' && indices.dtype !== 'int64')
    throw new ShapeError(operation, [x, indices], `indices are ${indices.dtype}, and must be int32 or int64`);
};

export function gather(x: Tensor, indices: Tensor): Tensor {
  isIndex('gather', x, indices);
  return x.graph.operator('Gather', [x, indices], {
    attributes: { axis: 0 },
    outputs: [{ dtype: x.dtype, shape: [...indices.shape, ...x.shape.slice(1)] }],
  })[0];
}

export function gatherElements(x: Tensor, indices: Tensor): Tensor {
  isIndex('gatherElements', x, indices);
  if (indices.rank !== x.rank || indices.shape.some((dim, i) => i < x.rank - 1 && dim !== x.shape[i]))
    throw new ShapeError('gatherElements', [x, indices], 'they may differ in the last axis alone');
  return x.graph.operator('GatherElements', [x, indices], {
    attributes: { axis: x.rank - 1 },
    outputs: [{ dtype: x.dtype, shape: indices.shape }],
  })[0];
}

/** `data` with `updates` added to the rows at `indices`; repeated indices add up. */
export function scatterAddRows(data: Tensor, indices: Tensor, updates: Tensor): Tensor {
  const rows = sizeOf(indices.shape);
  const flat = updates.reshape([rows, ...data.shape.slice(1)]);
  return data.graph.operator('ScatterND', [data, indices.cast('int64').reshape([rows, 1]), flat], {
    attributes: { reduction: 'add' },
    outputs: [{ dtype: data.dtype, shape: data.shape }],
  })[0];
}

export const indexingRules: Record<string, GradientRule> = {
  Gather: ({ inputs: [x, indices] }, [g]) => [
    { into: (accumulated) => scatterAddRows(accumulated ?? x!.graph.filled(x!.shape), indices!, g!) },
    null,
  ],
  GatherElements: ({ inputs: [x, indices], attributes }, [g]) => [
    x!.graph.operator('ScatterElements', [x!.graph.filled(x!.shape), indices!, g!], {
      attributes: { axis: attributes.axis, reduction: 'add' },
      outputs: [{ dtype: x!.dtype, shape: x!.shape }],
    })[0],
    null,
  ],
  ScatterND: ({ inputs: [, indices, updates] }, [g]) => [
    g!,
    null,
    g!.gather(indices!.reshape([indices!.shape[0]])).reshape(updates!.shape),
  ],
};
