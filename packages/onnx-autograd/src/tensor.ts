import type { Dim } from './dim.js';
import type { DType } from './host-tensor.js';
import type { GraphBuilder, Node } from './graph-builder.js';
import * as activation from './ops/activation.js';
import * as elementwise from './ops/elementwise.js';
import * as indexing from './ops/indexing.js';
import * as matrix from './ops/matmul.js';
import * as normalization from './ops/normalization.js';
import * as reduce from './ops/reduce.js';
import * as shaping from './ops/shaping.js';

/** A symbolic tensor: a value of the graph, known by shape and element type until the graph runs. Immutable. */
export class Tensor {
  constructor(
    readonly graph: GraphBuilder,
    readonly id: number,
    readonly shape: readonly Dim[],
    readonly dtype: DType,
    /** The node that makes it; null for inputs and parameters. */
    readonly producer: Node | null,
    readonly outputIndex: number,
    readonly name?: string,
  ) {}

  /** What errors call it: the name of an input or a parameter, otherwise of the node that makes it. */
  get label(): string {
    return this.name ?? this.producer?.name ?? '';
  }

  get rank(): number {
    return this.shape.length;
  }

  // Elementwise, with broadcasting
  add(other: Tensor | number): Tensor {
    return elementwise.add(this, other);
  }
  sub(other: Tensor | number): Tensor {
    return elementwise.sub(this, other);
  }
  mul(other: Tensor | number): Tensor {
    return elementwise.mul(this, other);
  }
  div(other: Tensor | number): Tensor {
    return elementwise.div(this, other);
  }
  pow(exponent: Tensor | number): Tensor {
    return elementwise.pow(this, exponent);
  }
  maximum(other: Tensor | number): Tensor {
    return elementwise.maximum(this, other);
  }
  minimum(other: Tensor | number): Tensor {
    return elementwise.minimum(this, other);
  }
  neg(): Tensor {
    return elementwise.unary('Neg', this);
  }
  exp(): Tensor {
    return elementwise.unary('Exp', this);
  }
  log(): Tensor {
    return elementwise.unary('Log', this);
  }
  sqrt(): Tensor {
    return elementwise.unary('Sqrt', this);
  }
  abs(): Tensor {
    return elementwise.unary('Abs', this);
  }
  sin(): Tensor {
    return elementwise.unary('Sin', this);
  }
  cos(): Tensor {
    return elementwise.unary('Cos', this);
  }
  erf(): Tensor {
    return elementwise.unary('Erf', this);
  }
  reciprocal(): Tensor {
    return elementwise.unary('Reciprocal', this);
  }
  square(): Tensor {
    return elementwise.mul(this, this);
  }
  cast(dtype: DType): Tensor {
    return elementwise.cast(this, dtype);
  }

  // Comparisons give booleans
  equal(other: Tensor | number): Tensor {
    return elementwise.compare('Equal', this, other);
  }
  less(other: Tensor | number): Tensor {
    return elementwise.compare('Less', this, other);
  }
  lessOrEqual(other: Tensor | number): Tensor {
    return elementwise.compare('LessOrEqual', this, other);
  }
  greater(other: Tensor | number): Tensor {
    return elementwise.compare('Greater', this, other);
  }
  greaterOrEqual(other: Tensor | number): Tensor {
    return elementwise.compare('GreaterOrEqual', this, other);
  }
  and(other: Tensor): Tensor {
    return elementwise.compare('And', this, other);
  }
  or(other: Tensor): Tensor {
    return elementwise.compare('Or', this, other);
  }
  not(): Tensor {
    return elementwise.unary('Not', this);
  }

  // Activations
  tanh(): Tensor {
    return elementwise.unary('Tanh', this);
  }
  sigmoid(): Tensor {
    return elementwise.unary('Sigmoid', this);
  }
  relu(): Tensor {
    return elementwise.unary('Relu', this);
  }
  softplus(): Tensor {
    return elementwise.unary('Softplus', this);
  }
  /** `approximate: 'tanh'` is the usual fast form; 'none' the exact one with the error function. */
  gelu(approximate: 'none' | 'tanh' = 'none'): Tensor {
    return activation.gelu(this, approximate);
  }
  silu(): Tensor {
    return activation.silu(this);
  }
  /** Over the last axis. */
  softmax(): Tensor {
    return activation.softmax(this);
  }
  /** Over the last axis. */
  logSoftmax(): Tensor {
    return activation.logSoftmax(this);
  }
  /** Zeroes elements with probability `rate` and scales the rest by 1 / (1 - rate), in training graphs only. */
  dropout(rate: number): Tensor {
    return activation.dropout(this, rate);
  }

  // Products
  /** Matrix product over the last two axes; leading axes broadcast. */
  matmul(other: Tensor, options?: matrix.MatmulOptions): Tensor {
    return matrix.matmul(this, other, options);
  }
  /** x W + b over the last axis: W [in, out], b [out]. */
  linear(weight: Tensor, bias?: Tensor): Tensor {
    return matrix.linear(this, weight, bias);
  }

  // Reductions; without axes over all of them
  sum(axes?: number | readonly number[], keepDims = false): Tensor {
    return reduce.sum(this, axes, keepDims);
  }
  mean(axes?: number | readonly number[], keepDims = false): Tensor {
    return reduce.mean(this, axes, keepDims);
  }
  max(axes?: number | readonly number[], keepDims = false): Tensor {
    return reduce.max(this, axes, keepDims);
  }

  // Normalisation over the last axis
  layerNorm(weight: Tensor, bias: Tensor, epsilon = 1e-5): Tensor {
    return normalization.layerNorm(this, weight, bias, epsilon);
  }
  rmsNorm(weight: Tensor, epsilon = 1e-5): Tensor {
    return normalization.rmsNorm(this, weight, epsilon);
  }

  // Shapes
  /** The same elements in another shape; one axis may be -1. */
  reshape(shape: readonly Dim[]): Tensor {
    return shaping.reshape(this, shape);
  }
  transpose(permutation?: readonly number[]): Tensor {
    return shaping.transpose(this, permutation);
  }
  expand(shape: readonly Dim[]): Tensor {
    return shaping.expand(this, shape);
  }
  unsqueeze(axis: number): Tensor {
    return shaping.unsqueeze(this, axis);
  }
  squeeze(axis: number): Tensor {
    return shaping.squeeze(this, axis);
  }
  /** Elements start..end of one axis. */
  slice(axis: number, start: Dim, end: Dim): Tensor {
    return shaping.slice(this, axis, start, end);
  }
  split(axis: number, sizes: readonly number[]): Tensor[] {
    return shaping.split(this, axis, sizes);
  }

  // Rows by index
  /** Rows (axis 0) at `indices`, in the indices' shape. */
  gather(indices: Tensor): Tensor {
    return indexing.gather(this, indices);
  }
  /** Along the last axis, element `indices[..., i]` of each row. */
  gatherElements(indices: Tensor): Tensor {
    return indexing.gatherElements(this, indices);
  }

  /** The same value, through which no gradient flows. */
  stopGradient(): Tensor {
    return elementwise.stopGradient(this);
  }
}
