import { sameShape } from './dim.js';
import { AutogradError, NotDifferentiableError, ShapeError } from './errors.js';
import type { Gradient, GradientRule, Node } from './graph-builder.js';
import { activationRules } from './ops/activation.js';
import { elementwiseRules } from './ops/elementwise.js';
import { indexingRules } from './ops/indexing.js';
import { matmulRules } from './ops/matmul.js';
import { reduceRules } from './ops/reduce.js';
import { shapingRules } from './ops/shaping.js';
import type { Tensor } from './tensor.js';

const rules: Readonly<Record<string, GradientRule>> = {
  ...elementwiseRules,
  ...activationRules,
  ...reduceRules,
  ...shapingRules,
  ...matmulRules,
  ...indexingRules,
};

/** The operations that have a gradient. */
export const differentiableOperations: readonly string[] = Object.keys(rules);

/**
 * Gradients of a scalar with respect to tensors, as more nodes of the same graph (reverse mode). Nodes are added only
 * along paths that lead from `wrt` to the loss, so that a frozen model costs no weight gradients. A tensor that the loss
 * does not depend on gets zeros.
 *
 * @param loss a scalar, or any shape when `upstream` (of the same shape) is given.
 * @param options.from nodes with a lower number (`GraphBuilder.watermark`) are not looked behind: what they make counts as given
 */
export function gradients(
  loss: Tensor,
  wrt: readonly Tensor[],
  upstream?: Tensor,
  { from = 0 }: { readonly from?: number } = {},
): Tensor[] {
  if (!upstream && loss.rank !== 0)
    throw new ShapeError('gradients', [loss], 'a loss is a scalar; take its sum or mean, or give the upstream gradient');
  if (upstream && !sameShape(upstream.shape, loss.shape))
    throw new ShapeError('gradients', [loss, upstream], 'the upstream gradient has the shape of the value');

  const order = topological(loss, from);
  const reached = new Set<Tensor>(wrt);
  for (const node of order)
    if (differentiableInputs(node).some((input) => input !== null && reached.has(input)))
      for (const output of node.outputs) reached.add(output);

  const pending = new Map<Tensor, Gradient[]>([[loss, [upstream ?? loss.graph.constant(1)]]]);
  const settled = new Map<Tensor, Tensor>();
  const settle = (tensor: Tensor): Tensor | null => {
    const done = settled.get(tensor);
    if (done) return done;
    const parts = pending.get(tensor);
    if (!parts) return null;
    const sum = accumulate(parts);
    if (!sameShape(sum.shape, tensor.shape))
      throw new AutogradError(
        `internal: the gradient of ${tensor.producer?.name ?? tensor.name} [${tensor.shape}] came out as [${sum.shape}]`,
      );
    settled.set(tensor, sum);
    return sum;
  };

  for (const node of order.reverse()) {
    if (!node.outputs.some((output) => reached.has(output) && pending.has(output))) continue;
    const inputs = differentiableInputs(node);
    const needed = node.inputs.map((input, i) => i < inputs.length && input !== null && isFloat(input) && reached.has(input));
    if (!needed.some(Boolean)) continue;
    const rule = node.rule ?? rules[node.operation];
    if (!rule) throw new NotDifferentiableError(node.operation, node.name);
    if (!node.rule) checkSettings(node);
    const contributions = rule(node, node.outputs.map(settle), needed);
    node.inputs.forEach((input, i) => {
      const contribution = needed[i] ? contributions[i] : null;
      if (!contribution || !input) return;
      const parts = pending.get(input);
      if (parts) parts.push(contribution);
      else pending.set(input, [contribution]);
    });
  }
  return wrt.map((tensor) => settle(tensor) ?? tensor.graph.filled(tensor.shape));
}

/** Operators added by name may have settings that the methods of Tensor never use, and that the rules do not cover. */
const covered: Readonly<Record<string, (node: Node) => Readonly<Record<string, boolean>>>> = {
  Softmax: lastAxis,
  LogSoftmax: lastAxis,
  Gather: ({ attributes }) => ({ 'an axis other than 0': (attributes.axis ?? 0) === 0 }),
  // Its axis is the first where nothing says otherwise.
  GatherElements: (node) => ({ ...lastAxis(node), 'no axis': node.attributes.axis !== undefined }),
  ScatterND: ({ attributes }) => ({ 'a reduction other than add': attributes.reduction === 'add' }),
  QuickGelu: ({ attributes: { alpha } }) => ({
    'an alpha other than 1': typeof alpha === 'object' && 'float' in alpha && alpha.float === 1,
  }),
  Gemm: ({ attributes: { beta } }) => ({
    'a beta other than 1': beta === undefined || (typeof beta === 'object' && 'float' in beta && beta.float === 1),
  }),
  MatMul: vectors,
  FusedMatMul: (node) => ({
    ...vectors(node),
    'swapped batch axes': !node.attributes.transBatchA && !node.attributes.transBatchB,
  }),
  Pad: ({ inputs, attributes }) => ({
    'a mode other than constant': (attributes.mode ?? 'constant') === 'constant',
    'computed pads': inputs[1]?.producer?.payload?.kind === 'dims',
    'a computed value': !inputs[2] || inputs[2].producer?.payload?.kind === 'constant',
    'axes of its own': !inputs[3],
  }),
  Slice: ({ inputs }) => ({
    'steps, computed bounds or several axes':
      inputs.length === 4 &&
      inputs[1]?.producer?.payload?.kind === 'dims' &&
      inputs[1].shape[0] === 1 &&
      inputs[3]?.producer?.payload?.kind === 'constant',
    'a bound or an axis counted from the end': [inputs[1], inputs[2], inputs[3]].every(countsFromTheStart),
  }),
  Max: twoOperands,
  Min: twoOperands,
  ReduceSum: constantAxes,
  ReduceMax: constantAxes,
  Concat: axisFromTheStart,
  Split: axisFromTheStart,
  Transpose: ({ attributes }) => ({ 'no permutation': attributes.perm !== undefined }),
};

function lastAxis({ inputs: [x], attributes: { axis = -1 } }: Node): Record<string, boolean> {
  return { 'an axis other than the last': axis === -1 || axis === x!.rank - 1 };
}

function vectors({ inputs }: Node): Record<string, boolean> {
  return { 'a vector operand': inputs.every((input) => !input || input.rank >= 2) };
}

function twoOperands({ inputs }: Node): Record<string, boolean> {
  return { 'another number of operands than two': inputs.length === 2 };
}

function constantAxes({ inputs: [, axes] }: Node): Record<string, boolean> {
  return {
    'computed axes': axes?.producer?.payload?.kind === 'constant',
    'an axis counted from the end': countsFromTheStart(axes),
  };
}

function axisFromTheStart({ attributes: { axis } }: Node): Record<string, boolean> {
  return { 'no axis, or one counted from the end': typeof axis === 'number' && axis >= 0 };
}

/** Whether none of the numbers that a node holds is negative; what is computed is looked at elsewhere. */
function countsFromTheStart(tensor: Tensor | null | undefined): boolean {
  const payload = tensor?.producer?.payload;
  if (payload?.kind === 'dims') return payload.dims.every((dim) => typeof dim === 'string' || dim >= 0);
  return payload?.kind !== 'constant' || payload.data.every((value: number | bigint) => value >= 0);
}

function checkSettings(node: Node): void {
  for (const [setting, fine] of Object.entries(covered[node.operation]?.(node) ?? {}))
    if (!fine) throw new NotDifferentiableError(node.operation, node.name, setting);
}

const isFloat = (tensor: Tensor): boolean => tensor.dtype === 'float32' || tensor.dtype === 'float16';

/** A `custom` node also holds its forward values, which its gradient does not pass through. */
const differentiableInputs = (node: Node): readonly (Tensor | null)[] =>
  node.operation === 'custom' ? node.inputs.slice(0, node.inputs.length - node.outputs.length) : node.inputs;

function accumulate(parts: readonly Gradient[]): Tensor {
  let sum: Tensor | null = null;
  for (const part of parts) if (!('into' in part)) sum = sum ? sum.add(part) : part;
  for (const part of parts) if ('into' in part) sum = part.into(sum);
  return sum!;
}

/** The nodes that the tensor depends on (through gradients), inputs before users. */
function topological(root: Tensor, from: number): Node[] {
  const found = new Set<Node>();
  const stack = [root];
  while (stack.length > 0) {
    const node = stack.pop()!.producer;
    if (!node || node.id < from || found.has(node)) continue;
    found.add(node);
    for (const input of differentiableInputs(node)) if (input) stack.push(input);
  }
  // A node is made after everything it reads, so ids are an order.
  return [...found].sort((a, b) => a.id - b.id);
}
