import { broadcastShapes, unbroadcast } from '../broadcast.js';
import { formatShape, sizeOf } from '../dim.js';
import { ShapeError } from '../errors.js';
import { float, type GradientRule } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';

export interface MatmulOptions {
  /** Read the first operand's last two axes swapped. */
  transposeA?: boolean;
  /** Read the second operand's last two axes swapped. */
  transposeB?: boolean;
  /** A factor on the product, at no cost. */
  scale?: number;
}

export function matmul(a: Tensor, b: Tensor, { transposeA = false, transposeB = false, scale = 1 }: MatmulOptions = {}): Tensor {
  if (a.rank < 2 || b.rank < 2) throw new ShapeError('matmul', [a, b], 'both need two axes or more');
  const [rows, inner] = transposeA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [innerB, columns] = transposeB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  if (inner !== innerB)
    throw new ShapeError(
      'matmul',
      [a, b],
      `inner axes ${inner} and ${innerB} differ${transposeA || transposeB ? ' (after transposing)' : ''}`,
    );
  const shape = [...broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2), [a, b]), rows, columns];
  const outputs = [{ dtype: a.dtype, shape }];
  if (a.rank === 2 && b.rank === 2 && (transposeA || transposeB || scale !== 1))
    return a.graph.operator('Gemm', [a, b], {
      attributes: { transA: +transposeA, transB: +transposeB, alpha: float(scale) },
      outputs,
    })[0];
  // One product of all rows with a matrix, where a batched one would run a product per batch entry.
  if (b.rank === 2 && a.rank > 2 && !transposeA && (transposeB || scale !== 1))
    return matmul(a.reshape([sizeOf(a.shape.slice(0, -1)), inner]), b, { transposeB, scale }).reshape(shape);
  if (!transposeA && !transposeB && scale === 1) return a.graph.operator('MatMul', [a, b], { outputs })[0];
  return a.graph.operator('FusedMatMul', [a, b], {
    domain: 'com.microsoft',
    attributes: { transA: +transposeA, transB: +transposeB, alpha: float(scale) },
    outputs,
  })[0];
}

export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [inner, width] = weight.shape;
  if (weight.rank !== 2 || x.shape.at(-1) !== inner || (bias && (bias.rank !== 1 || bias.shape[0] !== width)))
    throw new ShapeError(
      'linear',
      [x, weight, ...(bias ? [bias] : [])],
      `the last axis, ${x.shape.at(-1)}, must be the weight's first, ${inner}, and the bias [${width}]`,
    );
  if (!bias) return matmul(x, weight);
  const flat = x.reshape([sizeOf(x.shape.slice(0, -1)), inner]);
  const [y] = x.graph.operator('Gemm', [flat, weight, bias], {
    attributes: { transA: 0, transB: 0, alpha: float(1) },
    outputs: [{ dtype: x.dtype, shape: [flat.shape[0], width] }],
  });
  return y.reshape([...x.shape.slice(0, -1), width]);
}

const productRule: GradientRule = ({ inputs: [a, b, bias], attributes }, [g], [needA, needB, needBias]) => {
  const transposeA = attributes.transA === 1;
  const transposeB = attributes.transB === 1;
  const scale = typeof attributes.alpha === 'object' && 'float' in attributes.alpha ? attributes.alpha.float : 1;
  const gradients: (Tensor | null)[] = [null, null];
  if (needA)
    gradients[0] = unbroadcast(
      transposeA
        ? matmul(b!, g!, { transposeA: transposeB, transposeB: true, scale })
        : matmul(g!, b!, { transposeB: !transposeB, scale }),
      a!.shape,
    );
  if (needB) {
    // A matrix shared by the whole batch gets its gradient from one product over all rows.
    if (b!.rank === 2 && a!.rank > 2 && !transposeA) {
      const rows = sizeOf(a!.shape.slice(0, -1));
      const left = a!.reshape([rows, a!.shape.at(-1)!]);
      const right = g!.reshape([rows, g!.shape.at(-1)!]);
      gradients[1] = transposeB
        ? matmul(right, left, { transposeA: true, scale })
        : matmul(left, right, { transposeA: true, scale });
    } else
      gradients[1] = unbroadcast(
        transposeB
          ? matmul(g!, a!, { transposeA: true, transposeB: transposeA, scale })
          : matmul(a!, g!, { transposeA: !transposeA, scale }),
        b!.shape,
      );
  }
  if (bias) gradients.push(needBias ? unbroadcast(g!, bias.shape) : null);
  return gradients;
};

export const matmulRules: Record<string, GradientRule> = { MatMul: productRule, Gemm: productRule, FusedMatMul: productRule };

export { formatShape };
