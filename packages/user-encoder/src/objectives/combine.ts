import type { HostTensor, Tensor, Weights } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { checkIsObjective, type BoundObjective, type Objective } from './objective.js';

/**
 * Several objectives at once: the sum of their losses, each times its weight. They read the same windows at every step.
 *
 * @throws EncoderOptionError for a weight that is not positive, one kind twice, or objectives that need different attention
 */
export function combine(...parts: readonly (readonly [objective: Objective, weight: number])[]): Objective {
  if (parts.length === 0) throw new EncoderOptionError('objective', 'combine has nothing to combine; give [objective, weight]');
  for (const part of parts) {
    if (!Array.isArray(part)) throw new EncoderOptionError('objective', 'combine takes pairs; give [objective, weight] for each');
    checkIsObjective((part as (typeof parts)[number])[0]);
  }
  for (const [{ kind }, weight] of parts) {
    if (!(weight > 0 && Number.isFinite(weight)))
      throw new EncoderOptionError('objective', `the weight of '${kind}' is ${weight}, and a weight is a positive number`);
    if (parts.filter(([other]) => other.kind === kind).length > 1)
      throw new EncoderOptionError('objective', `'${kind}' stands twice; give it once, with the sum of the weights`);
  }
  const picky = parts.filter(([{ attention }]) => attention);
  const [first] = picky;
  const against = picky.find(([{ attention }]) => attention !== first[0].attention);
  if (against)
    throw new EncoderOptionError(
      'objective',
      `'${first[0].kind}' needs ${first[0].attention} attention and '${against[0].kind}' ${against[0].attention}; train an encoder for each`,
    );
  const heads = parts.map(([{ itemHead }]) => itemHead);
  const itemHead = heads.includes('item') ? 'item' : heads.includes('labels') ? 'labels' : 'none';
  return {
    kind: 'combined',
    ...(first?.[0].attention ? { attention: first[0].attention } : {}),
    itemHead,
    ...{ parts },
    bind(run): BoundObjective {
      const bound = parts.map(([objective, weight]) => ({ objective: objective.bind(run), weight }));
      return {
        labelTower: bound.find(({ objective }) => objective.labelTower)?.objective.labelTower,
        // What the head that scores has learned.
        repeats: bound.some(({ objective }, i) => heads[i] === itemHead && objective.repeats === 'never') ? 'never' : 'allowed',
        build(graph) {
          let loss: Tensor | undefined;
          const named: Record<string, Tensor> = {};
          const outputs: Record<string, Tensor> = {};
          for (const { objective, weight } of bound) {
            const built = objective.build(graph);
            loss = loss ? loss.add(built.loss.mul(weight)) : built.loss.mul(weight);
            Object.assign(named, built.parts);
            Object.assign(outputs, built.outputs);
          }
          return { loss: loss!, parts: named, outputs };
        },
        feeds: (batch) =>
          bound.reduce<Record<string, HostTensor>>((feeds, { objective }) => ({ ...feeds, ...objective.feeds(batch) }), {}),
        async derived(evaluate) {
          const weights: Weights = new Map();
          for (const { objective } of bound)
            for (const [name, weight] of (await objective.derived?.(evaluate)) ?? []) weights.set(name, weight);
          return weights;
        },
      };
    },
  };
}
