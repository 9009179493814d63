import { checkNames } from '../check-names.js';
import { AdaptationError } from '../errors.js';
import type { TrainingSettings, ValidationSchedule } from './training-options.js';

/** What is not given. Rates of the encoder and the items are factors. */
export const trainingDefaults = {
  seed: 1,
  batchSize: 64,
  learningRate: 1e-3,
  encoderRate: 1,
  itemRate: 1,
  warmup: 0.1,
  weightDecay: 0.1,
  clipNorm: 1,
} as const satisfies TrainingSettings & { itemRate: number };

type Check = readonly [holds: (value: number) => boolean, rule: string];

const positive: Check = [(value) => value > 0, 'above 0'];
const finitePositive: Check = [(value) => value > 0 && value < Infinity, 'a number above 0'];
const atLeastZero: Check = [(value) => value >= 0 && value < Infinity, 'a number of at least 0'];
const share: Check = [(value) => value >= 0 && value <= 1, 'from 0 to 1'];
const count: Check = [(value) => Number.isInteger(value) && value >= 1, 'a whole number of at least 1'];

const ofTraining = {
  steps: positive,
  epochs: positive,
  batchSize: count,
  tokensPerPart: count,
  seconds: positive,
  learningRate: finitePositive,
  encoderRate: atLeastZero,
  itemRate: atLeastZero,
  warmup: share,
  weightDecay: atLeastZero,
  clipNorm: positive,
  threads: count,
} satisfies Record<string, Check>;

const ofCheckpoint = { everySteps: count, everySeconds: finitePositive } satisfies Record<string, Check>;

const ofValidation = {
  keepFrom: share,
  everySteps: count,
  everySeconds: finitePositive,
  patience: [(value) => value === Infinity || count[0](value), count[1]],
} satisfies Record<string, Check>;

/** Names of what any training can be told. */
export const trainingNames = [
  ...['steps', 'epochs', 'seconds', 'seed', 'batchSize', 'learningRate', 'encoderRate', 'warmup', 'weightDecay', 'clipNorm'],
  ...['threads', 'frozenWeights', 'signal', 'checkpoint', 'validation'],
];

/**
 * Refuses settings that would train something else than was meant, or nothing.
 *
 * @param own names of those that this training, and its validation, has besides those of any
 * @throws AdaptationError naming the setting
 */
export function checkTrainingSettings(
  settings: TrainingSettings & { readonly validation?: (ValidationSchedule & { readonly by?: string }) | undefined },
  own: { readonly settings: readonly string[]; readonly validation: readonly string[] },
): void {
  const { validation = {}, checkpoint, frozenWeights = 'fed' } = settings;
  checkNames(settings, [...own.settings, ...trainingNames]);
  check(ofTraining, settings);
  checkOneOf('frozenWeights', frozenWeights, ['fed', 'packed']);
  check(ofValidation, validation, 'validation.');
  checkNames(validation, [...own.validation, ...Object.keys(ofValidation)], 'validation.');
  checkOneOf('validation.by', validation.by ?? 'loss', ['loss', 'ranking']);
  if (checkpoint === undefined) return;
  if (typeof (checkpoint as { file?: unknown } | null)?.file !== 'string')
    throw new AdaptationError('checkpoint', `must be { file, everySteps?, everySeconds? }, and is ${JSON.stringify(checkpoint)}`);
  check(ofCheckpoint, checkpoint, 'checkpoint.');
  checkNames(checkpoint, ['file', ...Object.keys(ofCheckpoint)], 'checkpoint.');
}

function check(checks: Readonly<Record<string, Check>>, values: object, prefix = ''): void {
  for (const [name, [holds, rule]] of Object.entries(checks)) {
    const value = (values as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined && !(typeof value === 'number' && holds(value)))
      throw new AdaptationError(`${prefix}${name}`, `must be ${rule}, and is ${String(value)}`);
  }
}

function checkOneOf(name: string, value: string, known: readonly string[]): void {
  if (!known.includes(value)) throw new AdaptationError(name, `must be ${known.join(' or ')}, and is ${value}`);
}

/** A function makes its batches by itself: a `batchSize` beside it would change nothing. Throws an `AdaptationError`. */
export function checkBatchSize(source: unknown, { batchSize }: TrainingSettings): void {
  if (typeof source === 'function' && batchSize !== undefined)
    throw new AdaptationError(
      'batchSize',
      'is for a list of examples; a function makes its own batches, as mixTasks of its batchSize',
    );
}
