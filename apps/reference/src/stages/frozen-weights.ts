import os from 'node:os';
import type { LanguageModel } from '@user-llm/cross-attention';

/** Laying a large model's weights out takes some seconds, which come back within some forty steps. */
const leastSteps = 100;
const leastSeconds = 300;
/** Smaller models gain less than their sessions take to open. */
const leastBytes = 2 ** 27;
/** Packed, they are up to five times in memory, beside everything else. */
const memoryShare = 16;

/** Whether a model's weights should lie packed in its training sessions: in long runs, of large models, where there is plenty of memory. */
export function packsFrozenWeights(
  { weights }: Pick<LanguageModel, 'weights'>,
  budget: { readonly steps: number | undefined; readonly seconds: number },
  memory = os.totalmem(),
): boolean {
  let bytes = 0;
  for (const { shape } of weights.values()) bytes += 4 * shape.reduce((a, b) => a * b, 1);
  const isLong = budget.steps === undefined ? budget.seconds >= leastSeconds : budget.steps >= leastSteps;
  return isLong && bytes >= leastBytes && memoryShare * bytes <= memory;
}
