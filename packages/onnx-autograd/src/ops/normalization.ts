import { ShapeError } from '../errors.js';
import { float } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';
import { matmul } from './matmul.js';
import { sumOfRows, unbroadcast } from '../broadcast.js';

function checkWidth(operation: string, x: Tensor, ...weights: Tensor[]): number {
  const width = x.shape.at(-1);
  if (typeof width !== 'number' || x.rank < 2)
    throw new ShapeError(operation, [x], 'it takes two axes or more, and the last one must be a number');
  for (const weight of weights)
    if (weight.rank !== 1 || weight.shape[0] !== x.shape.at(-1))
      throw new ShapeError(operation, [x, weight], 'the weight must have the width of the last axis');
  return width;
}

/** (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis (Ba et al. 2016). */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: number): Tensor {
  const width = checkWidth('layerNorm', x, weight, bias);
  const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] } as const;
  const [y, mean, inverse] = x.graph.operator('LayerNormalization', [x, weight, bias], {
    attributes: { axis: -1, epsilon: float(epsilon) },
    outputs: [{ dtype: x.dtype, shape: x.shape }, statistic, statistic],
  });
  return x.graph.custom([x, weight, bias], [y], (_, [g], [needX, needWeight, needBias]) => {
    // With c = x - mean, s = 1 / deviation, h = g weight:  dx = s (h - mean(h)) - c s^3 mean(h c);  dweight = sum(s g c).
    // The means and the sum over rows are products with a vector: reading is cheap, every tensor written is not.
    const centred = x.sub(mean);
    const product = g!.mul(centred);
    const column = weight.reshape([width, 1]);
    const gradient = needX
      ? g!
          .mul(weight)
          .sub(matmul(g!, column, { scale: 1 / width }))
          .mul(inverse)
          .sub(centred.mul(matmul(product, column, { scale: 1 / width }).mul(inverse.mul(inverse).mul(inverse))))
      : null;
    return [
      gradient,
      needWeight ? sumOfRows(inverse, product, width).reshape([width]) : null,
      needBias ? unbroadcast(g!, bias.shape) : null,
    ];
  })[0];
}

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  const width = checkWidth('rmsNorm', x, weight);
  const [y, inverse] = x.graph.operator('SimplifiedLayerNormalization', [x, weight], {
    attributes: { axis: -1, epsilon: float(epsilon), stash_type: 1 },
    outputs: [
      { dtype: x.dtype, shape: x.shape },
      { dtype: 'float32', shape: [...x.shape.slice(0, -1), 1] },
    ],
  });
  return x.graph.custom([x, weight], [y], (_, [g], [needX, needWeight]) => {
    // With s = 1 / sqrt(mean square), h = g weight:  dx = s h - x s^3 mean(h x);  dweight = sum(s g x).
    const product = g!.mul(x);
    const column = weight.reshape([width, 1]);
    const gradient = needX
      ? g!
          .mul(weight)
          .mul(inverse)
          .sub(x.mul(matmul(product, column, { scale: 1 / width }).mul(inverse.mul(inverse).mul(inverse))))
      : null;
    return [gradient, needWeight ? sumOfRows(inverse, product, width).reshape([width]) : null];
  })[0];
}
