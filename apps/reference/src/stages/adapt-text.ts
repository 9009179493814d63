import type { Example } from '../examples.js';
import type { AdaptationTask, AdaptedSystem } from './adaptation-task.js';

/** Trains a system that reads its prompt alone. */
export async function adaptText({ batch, model, source, options, watch }: AdaptationTask): Promise<AdaptedSystem> {
  const { validation, ...rest } = options;
  const training = model.adapt((step) => source.batch(step, { ...batch, reach: Infinity }).map(textOnly), {
    ...rest,
    validation: { ...validation, examples: validation.examples.map(textOnly) },
  });
  await watch(training);
  return { ...(await training.result), otherSeconds: 0 };
}

/** Examples of a text prompt have no embedding to read. */
const textOnly = ({ history: _, ...example }: Example): Omit<Example, 'history'> => example;
