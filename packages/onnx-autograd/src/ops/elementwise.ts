import { broadcastShapes, unbroadcast } from '../broadcast.js';
import { ShapeError } from '../errors.js';
import { float, type GradientRule } from '../graph-builder.js';
import { isFloat, onnxTypes, type DType } from '../host-tensor.js';
import type { Tensor } from '../tensor.js';

/** A number next to a tensor becomes a scalar constant of its element type. */
function operand(operation: string, like: Tensor, other: Tensor | number): Tensor {
  if (typeof other !== 'number') return other;
  if (!isFloat(like.dtype) && !Number.isInteger(other))
    throw new ShapeError(operation, [like], `${like.dtype} holds no fraction, and ${other} is one; cast it to float32 first`);
  return like.graph.constant(other, [], like.dtype);
}

function binary(operation: string, a: Tensor, b: Tensor, dtype?: DType): Tensor {
  if (a.dtype !== b.dtype) throw new ShapeError(operation, [a, b], `element types ${a.dtype} and ${b.dtype} differ; cast one`);
  const shape = broadcastShapes(operation, a.shape, b.shape, [a, b]);
  return a.graph.operator(operation, [a, b], { outputs: [{ dtype: dtype ?? a.dtype, shape }] })[0];
}

export const add = (a: Tensor, b: Tensor | number): Tensor => (b === 0 ? a : binary('Add', a, operand('Add', a, b)));
export const sub = (a: Tensor, b: Tensor | number): Tensor => (b === 0 ? a : binary('Sub', a, operand('Sub', a, b)));
export const mul = (a: Tensor, b: Tensor | number): Tensor => (b === 1 ? a : binary('Mul', a, operand('Mul', a, b)));
export const div = (a: Tensor, b: Tensor | number): Tensor => (b === 1 ? a : binary('Div', a, operand('Div', a, b)));
export const pow = (a: Tensor, b: Tensor | number): Tensor =>
  b === 1 ? a : b === 2 ? mul(a, a) : b === 0 ? a.graph.filled(a.shape, 1).cast(a.dtype) : binary('Pow', a, operand('Pow', a, b));
export const maximum = (a: Tensor, b: Tensor | number): Tensor => binary('Max', a, operand('Max', a, b));
export const minimum = (a: Tensor, b: Tensor | number): Tensor => binary('Min', a, operand('Min', a, b));
export const compare = (operation: string, a: Tensor, b: Tensor | number): Tensor =>
  binary(operation, a, operand(operation, a, b), 'bool');

export const unary = (operation: string, x: Tensor): Tensor =>
  x.graph.operator(operation, [x], { outputs: [{ dtype: x.dtype, shape: x.shape }] })[0];

export const cast = (x: Tensor, dtype: DType): Tensor =>
  x.dtype === dtype
    ? x
    : x.graph.operator('Cast', [x], { attributes: { to: onnxTypes[dtype] }, outputs: [{ dtype, shape: x.shape }] })[0];

export const stopGradient = (x: Tensor): Tensor => x.graph.custom([], [x], () => [])[0];

/** condition ? a : b, broadcasting all three. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  if (condition.dtype !== 'bool' || a.dtype !== b.dtype)
    throw new ShapeError(
      'where',
      [condition, a, b],
      `the condition is ${condition.dtype} and must be bool; the values are ${a.dtype} and ${b.dtype} and must agree`,
    );
  const shape = broadcastShapes('where', broadcastShapes('where', condition.shape, a.shape, [condition, a, b]), b.shape, [
    condition,
    a,
    b,
  ]);
  return a.graph.operator('Where', [condition, a, b], { outputs: [{ dtype: a.dtype, shape }] })[0];
}

/** 0 where y is 0, 1 where it is positive, in one pass: a comparison and a cast take three times as long. */
const stepOf = (y: Tensor): Tensor =>
  y.graph.operator('HardSigmoid', [y], {
    attributes: { alpha: float(2 ** 127), beta: float(0) },
    outputs: [{ dtype: y.dtype, shape: y.shape }],
  })[0];

const zeroLike = (x: Tensor): Tensor => x.graph.constant(0, [], x.dtype);

export const elementwiseRules: Record<string, GradientRule> = {
  Add: ({ inputs: [a, b] }, [g], [needA, needB]) => [
    needA ? unbroadcast(g!, a!.shape) : null,
    needB ? unbroadcast(g!, b!.shape) : null,
  ],
  Sub: ({ inputs: [a, b] }, [g], [needA, needB]) => [
    needA ? unbroadcast(g!, a!.shape) : null,
    needB ? unbroadcast(g!, b!.shape).neg() : null,
  ],
  Mul: ({ inputs: [a, b] }, [g], [needA, needB]) => [
    needA ? unbroadcast(g!.mul(b!), a!.shape) : null,
    needB ? unbroadcast(g!.mul(a!), b!.shape) : null,
  ],
  Div: ({ inputs: [a, b], outputs: [y] }, [g], [needA, needB]) => [
    needA ? unbroadcast(g!.div(b!), a!.shape) : null,
    needB ? unbroadcast(g!.mul(y).div(b!), b!.shape).neg() : null,
  ],
  // Where the base is 0, a power of 0 and a logarithm are infinite, and the slope is 0: a^0 is 1 everywhere, 0^b is 0 for all b above 0.
  Pow: ({ inputs: [a, b], outputs: [y] }, [g], [needA, needB]) => {
    const zero = zeroLike(y);
    const byBase = (): Tensor => where(b!.equal(0), zero, b!.mul(pow(a!, b!.sub(1))));
    const byExponent = (): Tensor => where(a!.equal(0).and(b!.greaterOrEqual(0)), zero, y.mul(a!.log()));
    return [needA ? unbroadcast(g!.mul(byBase()), a!.shape) : null, needB ? unbroadcast(g!.mul(byExponent()), b!.shape) : null];
  },
  Max: ({ inputs: [a, b] }, [g], [needA, needB]) => {
    const first = compare('GreaterOrEqual', a!, b!);
    return [
      needA ? unbroadcast(where(first, g!, zeroLike(g!)), a!.shape) : null,
      needB ? unbroadcast(where(first, zeroLike(g!), g!), b!.shape) : null,
    ];
  },
  Min: ({ inputs: [a, b] }, [g], [needA, needB]) => {
    const first = compare('LessOrEqual', a!, b!);
    return [
      needA ? unbroadcast(where(first, g!, zeroLike(g!)), a!.shape) : null,
      needB ? unbroadcast(where(first, zeroLike(g!), g!), b!.shape) : null,
    ];
  },
  Where: ({ inputs: [condition, a, b] }, [g], [, needA, needB]) => [
    null,
    needA ? unbroadcast(where(condition!, g!, zeroLike(g!)), a!.shape) : null,
    needB ? unbroadcast(where(condition!, zeroLike(g!), g!), b!.shape) : null,
  ],
  Neg: (_, [g]) => [g!.neg()],
  Exp: ({ outputs: [y] }, [g]) => [g!.mul(y)],
  Log: ({ inputs: [x] }, [g]) => [g!.div(x!)],
  Sqrt: ({ outputs: [y] }, [g]) => [g!.mul(0.5).div(y)],
  Reciprocal: ({ outputs: [y] }, [g]) => [g!.mul(y).mul(y).neg()],
  Abs: ({ inputs: [x] }, [g]) => [g!.mul(unary('Sign', x!))],
  Sin: ({ inputs: [x] }, [g]) => [g!.mul(x!.cos())],
  Cos: ({ inputs: [x] }, [g]) => [g!.mul(x!.sin()).neg()],
  Erf: ({ inputs: [x] }, [g]) => [g!.mul(x!.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))],
  Tanh: ({ outputs: [y] }, [g]) => [g!.sub(g!.mul(y.square()))],
  Sigmoid: ({ outputs: [y] }, [g]) => [g!.mul(y.sub(y.square()))],
  Softplus: ({ inputs: [x] }, [g]) => [g!.mul(x!.sigmoid())],
  // A product with 0 or 1 is several times faster than a choice, and min(2^127 y, 1) is 1 for every positive y that is not flushed to zero.
  Relu: ({ outputs: [y] }, [g]) => [g!.mul(stepOf(y))],
  Cast: ({ inputs: [x] }, [g]) => [x!.dtype === 'float32' || x!.dtype === 'float16' ? g!.cast(x!.dtype) : null],
};
