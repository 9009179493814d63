import type { Node } from './graph-builder.js';
import type { Tensor } from './tensor.js';

/** The part of a graph that the outputs depend on, inputs before users; includes the inside of `custom` nodes. */
export function reachable(outputs: Iterable<Tensor>): { nodes: Node[]; leaves: Set<Tensor> } {
  const nodes = new Set<Node>();
  const leaves = new Set<Tensor>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const tensor = stack.pop()!;
    const node = tensor.producer;
    if (!node) leaves.add(tensor);
    else if (!nodes.has(node)) {
      nodes.add(node);
      for (const input of forwardInputs(node)) if (input) stack.push(input);
    }
  }
  return { nodes: [...nodes].sort((a, b) => a.id - b.id), leaves };
}

/** What must be computed for the node: a custom node is its forward values. */
export const forwardInputs = (node: Node): readonly (Tensor | null)[] =>
  node.operation === 'custom' ? node.inputs.slice(node.inputs.length - node.outputs.length) : node.inputs;
