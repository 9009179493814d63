import { AutogradError } from '../errors.js';
import { float, type GradientRule } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';
import { unary } from './elementwise.js';

export function gelu(x: Tensor, approximate: 'none' | 'tanh'): Tensor {
  return x.graph.operator('Gelu', [x], { attributes: { approximate }, outputs: [{ dtype: x.dtype, shape: x.shape }] })[0];
}

/** x sigmoid(x), as one kernel of onnxruntime. */
export function silu(x: Tensor): Tensor {
  return x.graph.operator('QuickGelu', [x], {
    domain: 'com.microsoft',
    attributes: { alpha: float(1) },
    outputs: [{ dtype: x.dtype, shape: x.shape }],
  })[0];
}

export const softmax = (x: Tensor): Tensor =>
  x.graph.operator('Softmax', [x], { attributes: { axis: -1 }, outputs: [{ dtype: x.dtype, shape: x.shape }] })[0];

export const logSoftmax = (x: Tensor): Tensor =>
  x.graph.operator('LogSoftmax', [x], { attributes: { axis: -1 }, outputs: [{ dtype: x.dtype, shape: x.shape }] })[0];

export function dropout(x: Tensor, rate: number): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new AutogradError(`a dropout rate of ${rate} is outside [0, 1)`);
  return rate === 0 || !x.graph.training ? x : x.mul(x.graph.noise(x.shape, rate));
}

export const activationRules: Record<string, GradientRule> = {
  Softmax: ({ outputs: [y] }, [g]) => [y.mul(g!.sub(g!.mul(y).sum(-1, true)))],
  LogSoftmax: ({ outputs: [y] }, [g]) => [g!.sub(y.exp().mul(g!.sum(-1, true)))],
  QuickGelu: ({ inputs: [x], outputs: [y] }, [g]) => {
    // d/dx x s(x) = s + x s (1 - s) = s (1 + x - y)
    const s = unary('Sigmoid', x!);
    return [x!.sub(y).add(1).mul(s).mul(g!)];
  },
  Gelu: ({ inputs: [x], attributes }, [g]) => {
    if ((attributes.approximate ?? 'none') === 'none') {
      const cumulative = x!.mul(Math.SQRT1_2).erf().mul(0.5).add(0.5);
      const density = x!
        .square()
        .mul(-0.5)
        .exp()
        .mul(1 / Math.sqrt(2 * Math.PI));
      return [g!.mul(cumulative.add(x!.mul(density)))];
    }
    // y = x/2 (1 + tanh u), u = c (x + a x^3); dy = (1 + tanh u)/2 + x/2 (1 - tanh^2 u) c (1 + 3 a x^2)
    const c = Math.sqrt(2 / Math.PI);
    const a = 0.044715;
    const squared = x!.square();
    const t = x!.mul(squared.mul(c * a).add(c)).tanh();
    const inner = x!.mul(squared.mul(1.5 * c * a).add(0.5 * c));
    return [
      g!.mul(
        t
          .mul(0.5)
          .add(0.5)
          .add(inner.sub(inner.mul(t.square()))),
      ),
    ];
  },
};
