import type { ItemVectors } from './item-vectors.js';
import type { LabelTower } from './label-tower.js';
import type { ItemHead } from './objectives/objective.js';
import type { Repeats } from './objectives/taken-items.js';
import type { ValidationResult } from './validation.js';

export interface ValidationPoint extends ValidationResult {
  readonly step: number;
  /** Training time so far, validations included. */
  readonly seconds: number;
  /** Whether the average of the weights did better than the weights; absent where none is kept. */
  readonly averaged?: boolean | undefined;
}

/** Why a run ended. */
export type StopReason = 'steps' | 'seconds' | 'patience';

/** What happened in pretraining; kept with the encoder. */
export interface TrainingRecord {
  readonly steps: number;
  readonly epochs: number;
  readonly seconds: number;
  readonly eventsPerSecond: number;
  readonly stopped: StopReason;
  /** Where the scores of items come from. */
  readonly itemHead: ItemHead;
  /** How items become vectors from their fields, where `dualEncoder` was trained, alone or combined. */
  readonly labelTower?: LabelTower | undefined;
  /**
   * `never`: users of the log take no item again, and the item head tells the next one from those alone that are not in the history.
   * Absent in records of earlier releases, where it was told from all.
   */
  readonly repeats?: Repeats | undefined;
  /** What the item's table started from. Absent in records of earlier releases: `as-they-are`. */
  readonly itemVectors?: ItemVectors | undefined;
  /** Mean training loss over a few steps each, at most a few hundred points. */
  readonly losses: readonly { readonly step: number; readonly loss: number }[];
  readonly validation: readonly ValidationPoint[];
  /** The validation whose weights were kept; null without validation. */
  readonly best: ValidationPoint | null;
  /** Whether the run ended by its time or steps while validation was still getting better. */
  readonly stillImproving: boolean;
}

/** The better of two validations: NDCG@10, then the loss. */
export const isBetter = (a: ValidationResult, b: ValidationResult | null): boolean =>
  b === null || a.ndcgAt10 > b.ndcgAt10 || (a.ndcgAt10 === b.ndcgAt10 && a.loss < b.loss);

/** The best validation so far, the earliest of equals. */
export const bestOf = (points: readonly ValidationPoint[]): ValidationPoint | null =>
  points.reduce<ValidationPoint | null>((best, point) => (isBetter(point, best) ? point : best), null);

/** Whether the last validation is the best by NDCG@10 or has the lowest loss of all. */
export function endsImproving(points: readonly ValidationPoint[]): boolean {
  const last = points.at(-1);
  if (!last || points.length < 2) return points.length > 0;
  return bestOf(points) === last || points.slice(0, -1).every(({ loss }) => last.loss < loss);
}

/** Averages neighbours until at most `limit` points are left. */
export function thinned(losses: readonly { step: number; loss: number }[], limit = 400): { step: number; loss: number }[] {
  const size = Math.ceil(losses.length / limit) || 1;
  const points: { step: number; loss: number }[] = [];
  for (let i = 0; i < losses.length; i += size) {
    const group = losses.slice(i, i + size);
    points.push({ step: group[group.length - 1].step, loss: group.reduce((sum, { loss }) => sum + loss, 0) / group.length });
  }
  return points;
}
