import type { BuiltGraph, Outputs } from './definition.js';
import type { Dim } from './dim.js';
import { AutogradError } from './errors.js';
import { gradients } from './gradients.js';
import type { ParameterInfo } from './graph-builder.js';
import type { Optimizer } from './optimizers.js';
import { pickOutputs } from './program.js';
import type { TableInfo } from './table.js';
import type { Tensor } from './tensor.js';
import { joined, updateUnits, type UpdateUnit } from './update-units.js';

/** The names of what a training step reads and writes beside the model's own inputs. */
export const learningRateInput = 'optimizer.learning_rate';
export const stepInput = 'optimizer.step';
export const averageInput = 'optimizer.average';
/** The metric that clipping reports. */
export const gradientNorm = 'gradientNorm';
/** The sum of what a step has updated, where nothing else tells that a gradient is not finite: no metric, only looked at. */
export const weightSum = 'optimizer.weight_sum';
export const slotName = (slot: string, parameter: string): string => `${slot}/${parameter}`;
export const nextName = (name: string): string => `next/${name}`;
/** How often each row of a table has been touched, this step included: [rows, 1]. */
export const touchesName = (table: string): string => `touches/${table}`;
export const accumulatedName = (parameter: string): string => `accumulated/${parameter}`;

export interface TrainingGraph {
  /** One whole step: loss, metrics, next weights, next slots. */
  readonly step: Outputs;
  /** One micro-batch: loss, metrics, accumulated gradients plus this batch's. */
  readonly accumulate: Outputs;
  /** The end of an accumulated step: accumulated gradients to next weights and slots. */
  readonly apply: Outputs;
  readonly trainable: readonly ParameterInfo[];
  /** The same in the portions that the optimizer updates. */
  readonly units: readonly UpdateUnit[];
  readonly trainableTables: readonly TableInfo[];
}

/** What one update of the optimizer changes: some parameters, or the rows of a table. */
interface Updated {
  readonly name: string;
  /** The one that stands for all of them. */
  readonly first: ParameterInfo | TableInfo;
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  /** Made when it is asked for: an input that nothing reads would have to be fed. */
  readonly step: () => Tensor;
}

/** Adds gradients, clipping and the optimizer to a model's graph. */
export function trainingGraph(
  { builder, outputs }: BuiltGraph,
  options: {
    minimize: string;
    metrics: readonly string[];
    optimizer: Optimizer;
    trainable: (name: string) => boolean;
    clipNorm?: number | undefined;
  },
): TrainingGraph {
  const { clipNorm } = options;
  if (clipNorm !== undefined && !(clipNorm > 0))
    throw new AutogradError(`a clipNorm of ${clipNorm} is not above 0; give the largest norm of the gradients, or leave it out`);
  const loss = outputs[options.minimize];
  if (!loss)
    throw new AutogradError(
      `the model has no output '${options.minimize}' to minimize; it has ${Object.keys(outputs).join(', ')}`,
    );
  const trainable = [...builder.parameters.values()].filter(({ name }) => options.trainable(name));
  const trainableTables = [...builder.tables.values()].filter(({ name }) => options.trainable(name));
  const learning = [...trainable, ...trainableTables];
  if (learning.length === 0)
    throw new AutogradError('no parameter is trainable; look at the `trainable` option and the names of the parameters');
  const metrics = pickOutputs(outputs, options.metrics);
  if (metrics.loss && metrics.loss !== loss)
    throw new AutogradError(
      `the metric 'loss' has the name that '${options.minimize}' is reported under; give that output another name`,
    );
  for (const [name, { shape }] of Object.entries({ [options.minimize]: loss, ...metrics }))
    if (shape.length > 0)
      throw new AutogradError(
        `the output '${name}' is [${shape.join(', ')}], and a loss or a metric is a scalar; take its sum or mean`,
      );
  const units = updateUnits(trainable, options.optimizer);
  const found = gradients(
    loss,
    learning.map(({ tensor }) => tensor),
  );
  const gradientOf = new Map(learning.map(({ tensor }, i) => [tensor, found[i]]));
  const updated: Updated[] = [
    ...units.map((unit) => ({
      name: unit.name,
      first: unit.members[0],
      parameter: unit.members.length === 1 ? unit.members[0].tensor : builder.input(unit.name, unit.shape),
      gradient: joined(
        unit,
        unit.members.map(({ tensor }) => gradientOf.get(tensor)!),
      ),
      step: (): Tensor => input(stepInput),
    })),
    ...trainableTables.map((table) => ({
      name: table.name,
      first: table,
      parameter: table.tensor,
      gradient: gradientOf.get(table.tensor)!,
      step: (): Tensor => input(touchesName(table.name), [table.tensor.shape[0], 1]),
    })),
  ];
  const direct = updated.map(({ gradient }) => gradient);
  const accumulated = updated.map(({ name, parameter }) => builder.input(accumulatedName(name), parameter.shape));
  const average = builder.input(averageInput, []);
  return {
    trainable,
    units,
    trainableTables,
    step: { loss, ...metrics, ...update(direct, null) },
    accumulate: {
      loss,
      ...metrics,
      ...Object.fromEntries(updated.map(({ name }, i) => [nextName(accumulatedName(name)), accumulated[i].add(direct[i])])),
    },
    apply: update(accumulated, average),
  };

  function update(gradient: readonly Tensor[], factor: Tensor | null): Outputs {
    const learningRate = input(learningRateInput);
    const result: Record<string, Tensor> = {};
    let scale = factor;
    if (clipNorm !== undefined) {
      const squares = gradient.map((g) => g.square().sum()).reduce((a, b) => a.add(b));
      const norm = factor ? squares.sqrt().mul(factor) : squares.sqrt();
      // PyTorch's rule: never above 1.
      const clip = builder.constant(clipNorm).div(norm.add(1e-6)).minimum(1);
      scale = factor ? clip.mul(factor) : clip;
      result[gradientNorm] = norm;
    }
    updated.forEach(({ name, first, parameter, step }, i) => {
      const slots = Object.fromEntries(
        options.optimizer.slots.map((slot) => [slot, input(slotName(slot, name), parameter.shape)]),
      );
      const next = options.optimizer.update({
        name: first.name,
        shape: first.tensor.shape,
        parameter,
        gradient: gradient[i],
        slots,
        learningRate,
        step: step(),
        gradientScale: scale,
      });
      result[nextName(name)] = next.parameter;
      for (const slot of options.optimizer.slots) result[nextName(slotName(slot, name))] = next.slots[slot];
    });
    if (clipNorm === undefined)
      result[weightSum] = updated.map(({ name }) => result[nextName(name)].sum()).reduce((a, b) => a.add(b));
    return result;
  }

  function input(name: string, shape: readonly Dim[] = []): Tensor {
    return builder.inputs.get(name)?.tensor ?? builder.input(name, shape);
  }
}
