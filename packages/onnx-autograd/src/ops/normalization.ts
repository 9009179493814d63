import { ShapeError } from '../errors.js';
import { float } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';
import { unbroadcast } from '../broadcast.js';

function checkWidth(operation: string, x: Tensor, ...weights: Tensor[]): void {
  if (typeof x.shape.at(-1) !== 'number') throw new ShapeError(operation, [x], 'the last axis must be a number');
  for (const weight of weights)
    if (weight.rank !== 1 || weight.shape[0] !== x.shape.at(-1))
      throw new ShapeError(operation, [x, weight], 'the weight must have the width of the last axis');
}

/** (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis (Ba et al. 2016). */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: number): Tensor {
  checkWidth('layerNorm', x, weight, bias);
  const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] } as const;
  const [y, mean, inverse] = x.graph.operator('LayerNormalization', [x, weight, bias], {
    attributes: { axis: -1, epsilon: float(epsilon) },
    outputs: [{ dtype: x.dtype, shape: x.shape }, statistic, statistic],
  });
  return x.graph.custom([x, weight, bias], [y], (_, [g], [needX, needWeight, needBias]) => {
    const normalized = x.sub(mean).mul(inverse);
    const scaled = g!.mul(weight);
    const width = 1 / Number(x.shape.at(-1));
    const gradient = needX
      ? scaled
          .sub(scaled.sum(-1, true).mul(width))
          .sub(normalized.mul(scaled.mul(normalized).sum(-1, true).mul(width)))
          .mul(inverse)
      : null;
    return [
      gradient,
      needWeight ? unbroadcast(g!.mul(normalized), weight.shape) : null,
      needBias ? unbroadcast(g!, bias.shape) : null,
    ];
  })[0];
}

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  checkWidth('rmsNorm', x, weight);
  const [y, inverse] = x.graph.operator('SimplifiedLayerNormalization', [x, weight], {
    attributes: { axis: -1, epsilon: float(epsilon), stash_type: 1 },
    outputs: [
      { dtype: x.dtype, shape: x.shape },
      { dtype: 'float32', shape: [...x.shape.slice(0, -1), 1] },
    ],
  });
  return x.graph.custom([x, weight], [y], (_, [g], [needX, needWeight]) => {
    const normalized = x.mul(inverse);
    const scaled = g!.mul(weight);
    const width = 1 / Number(x.shape.at(-1));
    const gradient = needX ? scaled.sub(normalized.mul(scaled.mul(normalized).sum(-1, true).mul(width))).mul(inverse) : null;
    return [gradient, needWeight ? unbroadcast(g!.mul(normalized), weight.shape) : null];
  })[0];
}
