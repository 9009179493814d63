import { AdaptationError } from '../errors.js';
import type { TrainingSettings, ValidationSchedule } from './training-options.js';

type Check = readonly [holds: (value: number) => boolean, rule: string];

const positive: Check = [(value) => value > 0, 'above 0'];
const finitePositive: Check = [(value) => value > 0 && value < Infinity, 'a number above 0'];
const atLeastZero: Check = [(value) => value >= 0 && value < Infinity, 'a number of at least 0'];
const share: Check = [(value) => value >= 0 && value <= 1, 'from 0 to 1'];
const count: Check = [(value) => Number.isInteger(value) && value >= 1, 'a whole number of at least 1'];

const ofTraining = {
  steps: positive,
  epochs: positive,
  seconds: positive,
  learningRate: finitePositive,
  encoderRate: atLeastZero,
  itemRate: atLeastZero,
  warmup: share,
  weightDecay: atLeastZero,
  clipNorm: positive,
  threads: count,
} satisfies Record<string, Check>;

const ofValidation = {
  keepFrom: share,
  everySteps: count,
  everySeconds: finitePositive,
  patience: [(value) => value === Infinity || count[0](value), count[1]],
} satisfies Record<string, Check>;

/**
 * Refuses settings that would train something else than was meant, or nothing.
 *
 * @throws AdaptationError naming the setting
 */
export function checkTrainingSettings(
  settings: TrainingSettings & { readonly validation?: ValidationSchedule | undefined },
): void {
  const { validation = {}, checkpoint } = settings;
  check(ofTraining, settings);
  check(ofValidation, validation, 'validation.');
  if (checkpoint === undefined) return;
  if (typeof checkpoint !== 'object' || typeof checkpoint.file !== 'string')
    throw new AdaptationError('checkpoint', `must be { file, everySteps? }, and is ${JSON.stringify(checkpoint)}`);
  check({ everySteps: count }, checkpoint, 'checkpoint.');
}

function check(checks: Readonly<Record<string, Check>>, values: object, prefix = ''): void {
  for (const [name, [holds, rule]] of Object.entries(checks)) {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined && !(typeof value === 'number' && holds(value)))
      throw new AdaptationError(`${prefix}${name}`, `must be ${rule}, and is ${String(value)}`);
  }
}
