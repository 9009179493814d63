import { ShapeError } from '../errors.js';
import { gradients } from '../gradients.js';
import type { Tensor } from '../tensor.js';
import { stopGradient } from './elementwise.js';
import { after } from './order.js';

/**
 * Part of a model whose inner values are forgotten on the way forward and made again on the way back (Chen et al. 2016, section 3): a step
 * then holds the inputs of its segments and the inner values of one segment at a time, for about a third more of its products. The numbers
 * are those of `segment(...inputs)`, gradients and dropout masks included.
 *
 * What the segment reads beside its inputs (parameters, values made before) it may read from outside; it gets its gradient too.
 *
 * @param inputs float32 tensors
 * @param segment builds the part; called once more when its gradient is asked for, and must then build the same
 */
export function recompute(inputs: readonly Tensor[], segment: (...inputs: Tensor[]) => Tensor): Tensor {
  const [{ graph }] = inputs;
  const noises: Tensor[] = [];
  const first = graph.watermark;
  const output = graph.withNoise({ record: noises }, () => segment(...inputs));
  if (output.dtype !== 'float32') throw new ShapeError('recompute', [output], `it makes ${output.dtype}, which has no gradient`);
  const outside = readFromOutside(output, first, new Set(inputs));
  return graph.custom([...inputs, ...outside], [output], (_, [upstream], needed) => {
    // Nothing flows back through these: that is what the gradients of the inputs are for.
    const later = inputs.map((input) => stopGradient(after(input, [upstream!])));
    const again = graph.withNoise({ replay: [...noises] }, () => segment(...later));
    // What the segment reads of its inputs from outside, beside what it is given, is told from that only now: at first both were one tensor.
    const read = new Set(readFromOutside(again, first, new Set(later)));
    const alsoRead = inputs.map((input, i) => needed[i] && read.has(input) && inputs.indexOf(input) === i);
    const wanted = [...later, ...outside].map((tensor, i) => (needed[i] ? tensor : null));
    const all = [...wanted, ...inputs.map((input, i) => (alsoRead[i] ? input : null))];
    const found = gradients(
      again,
      all.filter((tensor) => tensor !== null),
      upstream!,
      { from: first },
    );
    const results = all.map((tensor) => (tensor ? found.shift()! : null));
    const fromOutside = results.splice(wanted.length);
    // What lies before goes on when this segment is done with: otherwise its values would be held for gradients of weights at the very end.
    const ofOutside = results.slice(inputs.length).filter((gradient) => gradient !== null);
    return results.map((gradient, i) => {
      if (!gradient || i >= inputs.length) return gradient;
      const also = fromOutside[i];
      return after(also ? gradient.add(also) : gradient, ofOutside);
    });
  })[0];
}

/** Float values that the nodes from a number on, behind a tensor, read and did not make; parameters among them. */
function readFromOutside(output: Tensor, first: number, inputs: ReadonlySet<Tensor>): Tensor[] {
  const found = new Set<Tensor>();
  const seen = new Set<Tensor>();
  const stack = [output];
  while (stack.length > 0) {
    const tensor = stack.pop()!;
    if (seen.has(tensor) || inputs.has(tensor)) continue;
    seen.add(tensor);
    const node = tensor.producer;
    if (node && node.id >= first) stack.push(...node.inputs.filter((input) => input !== null));
    else if (tensor.dtype === 'float32' && node?.payload === undefined) found.add(tensor);
  }
  return [...found].sort((a, b) => a.id - b.id);
}
