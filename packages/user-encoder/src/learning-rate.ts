import { EncoderOptionError } from './errors.js';
import { checkNames } from './option-names.js';

/** How the learning rate goes over a run: `constant`, or up for a while, perhaps on for a while, and then down half a cosine. */
export type LearningRateSchedule = 'constant' | 'cosine' | CosineSchedule;

export interface CosineSchedule {
  /** Share of the run in which the rate rises from 0. Default 0.05. */
  readonly warmup?: number;
  /** Share of the run in which it then stays at its height. Default 0; where the time is short, much of it. */
  readonly hold?: number;
  /** Share of the rate that is left at the end. Default 0.05. */
  readonly floor?: number;
}

export function checkSchedule(schedule: LearningRateSchedule): void {
  if (schedule === 'constant' || schedule === 'cosine') return;
  if (typeof schedule !== 'object' || schedule === null)
    throw new EncoderOptionError(
      'schedule',
      `'${String(schedule)}' is neither 'constant' nor 'cosine' nor { warmup, hold, floor }`,
    );
  checkNames(schedule, ['warmup', 'hold', 'floor'], 'schedule');
  for (const [name, value] of Object.entries(schedule)) {
    if (value !== undefined && !(value >= 0 && value < 1))
      throw new EncoderOptionError(`schedule.${name}`, `${value} is outside [0, 1)`);
  }
  const { warmup = 0.05, hold = 0 } = schedule;
  if (warmup + hold >= 1)
    throw new EncoderOptionError(
      'schedule',
      `warmup ${warmup} and hold ${hold} leave no time for the fall; together they stay below 1`,
    );
}

/** The factor on the learning rate where so much of the run (0 to 1) is done. */
export function rateFactor(schedule: LearningRateSchedule, done: number): number {
  if (schedule === 'constant') return 1;
  const { warmup = 0.05, hold = 0, floor = 0.05 } = schedule === 'cosine' ? {} : schedule;
  if (done < warmup) return done / warmup;
  const falls = warmup + hold;
  const progress = Math.min(1, Math.max(0, done - falls) / (1 - falls));
  return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
}
