import { EncoderOptionError } from './errors.js';
import { checkSchedule, type LearningRateSchedule } from './learning-rate.js';
import type { ItemVectors } from './item-vectors.js';
import { checkIsObjective, type ItemTable, type Objective } from './objectives/objective.js';
import { checkNames } from './option-names.js';
import type { PretrainProgress } from './pretrain-run.js';
import { checkAugmentation, type Augmentation } from './sequences.js';

export interface PretrainOptions {
  /** Default `nextEvent()`. */
  readonly objective?: Objective;
  /** The run ends at the first of these that is reached; 20 epochs when none is given. */
  readonly epochs?: number;
  readonly steps?: number;
  readonly seconds?: number;
  /** Windows in a batch. Small batches learn better. Default 24. */
  readonly batch?: number;
  /** Of Adam. Default 1e-3. */
  readonly learningRate?: number;
  /**
   * How the learning rate goes over the run, whose end the steps or epochs, or the seconds, say: a run by time follows the clock, so
   * that only one by steps can be repeated to the digit. Default `constant`.
   */
  readonly schedule?: LearningRateSchedule;
  /**
   * Keep a moving average of the weights (over about 1 / (1 - decay) steps, 1,000 by default, never more than the last tenth of the
   * run so far) and validate it too: whichever is better counts. Without validation the average is the result. Default `false`.
   */
  readonly averaging?: boolean | { readonly decay?: number };
  /**
   * `rows`: a training step gathers the rows of the item's table that its batch names (history, targets, negatives), and updates those
   * alone. For catalogues of very many items, with `sampledSoftmax`, `gbce` or `dualEncoder`: time and memory of a step then do not
   * depend on their number; the table itself takes 12 bytes per number and 8 per item (with `averaging` 16). Default `whole`.
   */
  readonly itemTable?: ItemTable;
  /**
   * What the item's table starts from. `co-occurrence`: vectors in which items are near each other that stand near each other in histories,
   * made in seconds by counting, so that training begins where the neighbours of an item are known; on sparse logs this is worth more than anything else. `as-they-are`: the encoder's own. Default:
   * `co-occurrence` for up to 131,072 items where the table is as it was created.
   */
  readonly itemVectors?: ItemVectors;
  /** Changes to the histories that are read. Default none. */
  readonly augmentation?: Augmentation;
  /**
   * `last`: each user's last event is held out of training and predicted now and then; the weights that predict it best are
   * kept. Leave the events of a test out before you give the events. `none`: all events are trained on, the last weights are kept.
   * Default `last`, where the objective has an item head.
   */
  readonly validation?: 'last' | 'none';
  /** Steps between validations. Default: an epoch, or more where validating would take a large share of the time. */
  readonly validateEvery?: number;
  /** At most so many users are validated. Default 4,000. */
  readonly validationUsers?: number;
  /** Stop after so many validations without a better one. Default: never. */
  readonly patience?: number;
  readonly signal?: AbortSignal;
  /**
   * A run that finds its own checkpoint goes on from it. Written every so many steps or seconds (without either every 500 steps and every 300
   * seconds), at the end, and when the signal aborts;
   * a second file `FILE.run` lies beside it. A folder that is not there is made, and a place where nothing can be written is refused before
   * the first step. Where a later writing fails, the run goes on and gives its result all the same: its progress says so (`unsaved`).
   */
  readonly checkpoint?: { readonly file: string; readonly everySteps?: number; readonly everySeconds?: number };
  readonly onProgress?: (progress: PretrainProgress) => void;
  /** Threads of the computation; the machine's cores by default. */
  readonly threads?: number;
}

const known: readonly (keyof PretrainOptions)[] = [
  'objective',
  'epochs',
  'steps',
  'seconds',
  'batch',
  'learningRate',
  'schedule',
  'averaging',
  'augmentation',
  'itemTable',
  'itemVectors',
  'validation',
  'validateEvery',
  'validationUsers',
  'patience',
  'signal',
  'checkpoint',
  'onProgress',
  'threads',
];

export function checkOptions(options: PretrainOptions): void {
  checkNames(options, known);
  const whole = ['steps', 'batch', 'validateEvery', 'validationUsers', 'patience'] as const;
  for (const name of whole) {
    const value = options[name];
    if (value !== undefined) checkWhole(name, value);
  }
  for (const name of ['epochs', 'seconds', 'learningRate'] as const) {
    const value = options[name];
    if (value !== undefined && !(value > 0)) throw new EncoderOptionError(name, `${value} is not a positive number`);
  }
  if (options.schedule !== undefined) checkSchedule(options.schedule);
  if (options.augmentation !== undefined) checkAugmentation(options.augmentation);
  for (const [name, one, other] of [
    ['itemTable', 'whole', 'rows'],
    ['itemVectors', 'co-occurrence', 'as-they-are'],
    ['validation', 'last', 'none'],
  ] as const) {
    const value = options[name];
    if (value !== undefined && value !== one && value !== other)
      throw new EncoderOptionError(name, `'${String(value)}' is neither '${one}' nor '${other}'`);
  }
  if (options.objective !== undefined) checkIsObjective(options.objective);
  if (options.checkpoint !== undefined) checkCheckpoint(options.checkpoint);
  const { averaging } = options;
  if (averaging !== undefined && typeof averaging !== 'boolean') checkNames(averaging, ['decay'], 'averaging');
  const decay = averageDecay(options);
  if (decay !== null && !(decay > 0 && decay < 1)) throw new EncoderOptionError('averaging.decay', `${decay} is outside (0, 1)`);
}

function checkCheckpoint(checkpoint: NonNullable<PretrainOptions['checkpoint']>): void {
  if (typeof checkpoint !== 'object' || checkpoint === null) {
    const file = typeof checkpoint === 'string' ? checkpoint : 'run.safetensors';
    throw new EncoderOptionError('checkpoint', `'${String(checkpoint)}' is no object; write { file: '${file}' }`);
  }
  checkNames(checkpoint, ['file', 'everySteps', 'everySeconds'], 'checkpoint');
  const { file, everySteps, everySeconds } = checkpoint;
  if (typeof file !== 'string' || file === '')
    throw new EncoderOptionError('checkpoint.file', `'${String(file)}' is no path of a file`);
  if (everySteps !== undefined) checkWhole('checkpoint.everySteps', everySteps);
  if (everySeconds !== undefined && !(everySeconds > 0 && everySeconds < Infinity))
    throw new EncoderOptionError('checkpoint.everySeconds', `${everySeconds} is not a number of seconds above 0`);
}

function checkWhole(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new EncoderOptionError(name, `${value} is not a positive whole number`);
}

/** Where a run ends by steps: at the first of those given; null when only a time ends it. */
export function lastStep({ steps, epochs, seconds }: PretrainOptions, stepsPerEpoch: number): number | null {
  if (steps === undefined && epochs === undefined && seconds !== undefined) return null;
  const byEpochs = epochs ?? (steps === undefined ? 20 : Infinity);
  return Math.min(steps ?? Infinity, Math.ceil(byEpochs * stepsPerEpoch));
}

/** Of the moving average; null where none is kept. */
export const averageDecay = ({ averaging = false }: PretrainOptions): number | null =>
  averaging === false ? null : ((averaging === true ? undefined : averaging.decay) ?? 0.999);

/** Checks that an encoder can be trained so. */
export function checkObjective(
  { attention, kind, itemHead }: Objective,
  has: 'causal' | 'bidirectional',
  options: PretrainOptions,
): void {
  if (attention && attention !== has)
    throw new EncoderOptionError(
      'objective',
      `'${kind}' needs an encoder with ${attention} attention, and this one's is ${has}; create it with { attention: '${attention}' }`,
    );
  if (options.validation === 'last' && itemHead === 'none')
    throw new EncoderOptionError(
      'validation',
      `'${kind}' scores no items, so the last one cannot be predicted; leave the option out`,
    );
}
