import type { Dim } from './dim.js';
import { AutogradError } from './errors.js';
import type { Tensor } from './tensor.js';

/** What an optimizer sees of one parameter in one step; everything is symbolic. */
export interface UpdateContext {
  readonly name: string;
  /** The parameter's own shape. */
  readonly shape: readonly Dim[];
  /** The parameter; several of one kind (`kindOf`) as one vector, under the name and the shape of the first. */
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  /** The optimizer's memory of this parameter, in the parameter's shape. */
  readonly slots: Readonly<Record<string, Tensor>>;
  /** Scalars: the scheduled learning rate; a factor on the gradient (clipping). */
  readonly learningRate: Tensor;
  /** The step counted from 1: a scalar. For rows of a table [rows, 1], the steps that touched each row. */
  readonly step: Tensor;
  readonly gradientScale: Tensor | null;
}

/** A pure description: which memory a parameter needs (zero at first), and how one step changes it. */
export interface Optimizer {
  readonly name: string;
  readonly learningRate: number;
  /** Settings that a resumed run must share. */
  readonly settings: Readonly<Record<string, number>>;
  readonly slots: readonly string[];
  /**
   * Parameters of one kind are updated alike, element by element, so that many small ones may be updated at once. Without it each is
   * updated alone.
   */
  kindOf?(name: string, shape: readonly number[]): string;
  update(context: UpdateContext): UpdateResult;
}

export interface UpdateResult {
  readonly parameter: Tensor;
  readonly slots: Readonly<Record<string, Tensor>>;
}

const scaled = (gradient: Tensor, factor: number, scale: Tensor | null): Tensor =>
  scale ? gradient.mul(scale.mul(factor)) : gradient.mul(factor);

/** The rate itself, where it is one: 0 leaves the weights where they are, as a schedule may want it. */
export function checkedRate(learningRate: number, where = 'of an optimizer'): number {
  if (Number.isFinite(learningRate) && learningRate >= 0) return learningRate;
  throw new AutogradError(`the learning rate ${where} is ${learningRate}; give a finite number of 0 or more (1e-3, say)`);
}

/** Refuses settings by which an optimizer would do something else than its name says, or leave them aside. */
function checkSettings(settings: Readonly<Record<string, number>>, below = Infinity): void {
  for (const [name, value] of Object.entries(settings))
    if (!(value >= 0 && value < below))
      throw new AutogradError(
        `${name} of an optimizer is ${value}; give a ${below === Infinity ? 'finite number of 0 or more' : `number from 0 up to, not including, ${below}`}`,
      );
}

/** Stochastic gradient descent; with momentum m: v' = m v + g, p' = p - rate v'. @throws AutogradError (a learning rate or a momentum that is none) */
export function sgd({ learningRate, momentum = 0 }: { learningRate: number; momentum?: number }): Optimizer {
  checkSettings({ momentum });
  return {
    name: 'sgd',
    learningRate: checkedRate(learningRate),
    settings: { momentum },
    slots: momentum === 0 ? [] : ['velocity'],
    kindOf: () => '',
    update({ parameter, gradient, slots, learningRate: rate, gradientScale }): UpdateResult {
      if (momentum === 0)
        return { parameter: parameter.sub(gradient.mul(gradientScale ? rate.mul(gradientScale) : rate)), slots: {} };
      const velocity = slots.velocity.mul(momentum).add(gradientScale ? gradient.mul(gradientScale) : gradient);
      return { parameter: parameter.sub(velocity.mul(rate)), slots: { velocity } };
    },
  };
}

export interface AdamWOptions {
  learningRate: number;
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  /** Decoupled weight decay; 0 is Adam. */
  weightDecay?: number;
  /** Which parameters decay; by default those with two axes or more (weights, not biases and norms). */
  decays?: (name: string, shape: readonly number[]) => boolean;
}

/** Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2). @throws AutogradError (a learning rate or another setting that is none) */
export function adamW({
  learningRate,
  beta1 = 0.9,
  beta2 = 0.999,
  epsilon = 1e-8,
  weightDecay = 0,
  decays = (_, shape) => shape.length > 1,
}: AdamWOptions): Optimizer {
  checkSettings({ beta1, beta2 }, 1);
  checkSettings({ epsilon, weightDecay });
  const decaysHere = (name: string, shape: readonly Dim[]): boolean => weightDecay > 0 && decays(name, shape as number[]);
  return {
    name: 'adamw',
    learningRate: checkedRate(learningRate),
    settings: { beta1, beta2, epsilon, weightDecay },
    slots: ['mean', 'variance'],
    kindOf: (name, shape) => (decaysHere(name, shape) ? 'decays' : ''),
    update({ name, shape, parameter, gradient, slots, learningRate: rate, step, gradientScale }) {
      const { graph } = parameter;
      const correction1 = graph.constant(beta1).pow(step).neg().add(1);
      const correction2 = graph.constant(beta2).pow(step).neg().add(1);
      const mean = slots.mean.mul(beta1).add(scaled(gradient, 1 - beta1, gradientScale));
      const squared = gradient.square();
      const variance = slots.variance.mul(beta2).add(scaled(squared, 1 - beta2, gradientScale && gradientScale.square()));
      // The rate divides the denominator, which is a pass less over the parameter; a rate of 0 still changes nothing to speak of.
      const slowness = correction1.div(rate.maximum(1e-30));
      const change = mean.div(variance.sqrt().mul(slowness.div(correction2.sqrt())).add(slowness.mul(epsilon)));
      const decayed = decaysHere(name, shape) ? parameter.mul(rate.mul(-weightDecay).add(1)) : parameter;
      return { parameter: decayed.sub(change), slots: { mean, variance } };
    },
  };
}

/** Adam (Kingma and Ba 2015): AdamW without weight decay. */
export const adam = (options: Omit<AdamWOptions, 'weightDecay' | 'decays'>): Optimizer => adamW(options);

/** Where `averaged` keeps the average of the weights. */
export const averageSlot = 'average';

/**
 * An optimizer that also keeps an exponential moving average of the weights: `trainer.weights({ slot: 'average' })`. The average
 * after step t moves by 1 - min(decay, (t - 1) / (t + 9)): it is the weights themselves after the first step, and reaches back
 * over the last tenth of a young run and over about 1 / (1 - decay) steps later. It is part of the checkpoint.
 */
export function averaged(optimizer: Optimizer, { decay = 0.999 }: { decay?: number } = {}): Optimizer {
  if (!(decay > 0 && decay < 1)) throw new AutogradError(`a decay of ${decay} is outside (0, 1)`);
  return {
    name: `${optimizer.name} averaged`,
    learningRate: optimizer.learningRate,
    settings: { ...optimizer.settings, averageDecay: decay },
    slots: [...optimizer.slots, averageSlot],
    ...(optimizer.kindOf ? { kindOf: optimizer.kindOf.bind(optimizer) } : {}),
    update(context) {
      const next = optimizer.update(context);
      const average = context.slots[averageSlot];
      const kept = context.step.sub(1).div(context.step.add(9)).minimum(decay);
      const moved = average.add(next.parameter.sub(average).mul(kept.neg().add(1)));
      return { parameter: next.parameter, slots: { ...next.slots, [averageSlot]: moved } };
    },
  };
}
