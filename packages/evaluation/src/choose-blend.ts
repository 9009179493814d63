import { askParts, checkParts, weightedSum, zScores } from './blend.js';
import type { BlendOptions } from './blend.js';
import { InvalidOptionError, InvalidResultError } from './errors.js';
import { UNKNOWN_ITEM } from './interaction-log.js';
import { historyOf, metItems, whoAsks } from './question.js';
import { denseRanks } from './rank.js';
import { gainAt } from './ranking-metrics.js';
import type { System } from './system.js';
import type { NextItemTask } from './task.js';

/** Options of {@link chooseBlend}. */
export interface ChooseBlendOptions extends Pick<BlendOptions, 'transforms'> {
  /** weights to try, each one per part; the first is taken where several are best. Default for two parts: {@link secondPartWeights}. */
  readonly grid?: readonly (readonly number[])[];
  /**
   * which ranking the weights are chosen by: without the items of the history, or with them. Where users take items again (music, shopping), say
   * `unfiltered`: a true item that was met before is in no filtered ranking. Default: `filtered`
   */
  readonly ranking?: 'filtered' | 'unfiltered';
  /** users asked so far, and in all */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  readonly signal?: AbortSignal;
}

/** What {@link chooseBlend} found. */
export interface BlendChoice {
  /** one per part, for {@link blend} */
  readonly weights: readonly number[];
  /** NDCG@10 of the ranking that was chosen by, over the task's users, for all weights that were tried, in the grid's order */
  readonly tried: readonly { readonly weights: readonly number[]; readonly 'ndcg@10': number }[];
}

/**
 * Weights of the second of two parts that are tried where no grid is given, the first weighing 1: from nothing to four times as much. Small
 * ones are close together: the best item of a sparse count, which knows nothing of most items, may lie twenty deviations above their mean.
 */
export const secondPartWeights: readonly number[] = [0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 4];

const depth = 10;

/**
 * The weights of a {@link blend} that rank the items of a validation task best, by NDCG@10. Every part is fitted to the task's training
 * events and asked once for each user; it must not have learned from the items that are asked for, nor see them.
 *
 * @param task `nextItem(split, { on: 'validation' })`: what is chosen on test items says nothing about others
 * @throws InvalidOptionError, or InvalidResultError where a part does not score every candidate
 */
export async function chooseBlend(
  parts: readonly System[],
  task: NextItemTask,
  options: ChooseBlendOptions = {},
): Promise<BlendChoice> {
  const { transforms = parts.map(() => zScores), grid = defaultGrid(parts), ranking = 'filtered' } = options;
  if (ranking !== 'filtered' && ranking !== 'unfiltered')
    throw new InvalidOptionError('ranking', `'${String(ranking)}' is neither 'filtered' nor 'unfiltered'.`);
  if (grid.length === 0) throw new InvalidOptionError('grid', 'give at least one set of weights to try.');
  for (const weights of grid) checkParts(parts, weights, transforms);
  for (const part of parts) await part.fit?.(task.train);
  const gains = grid.map(() => 0);
  for (const [done, one] of task.cases.entries()) {
    options.signal?.throwIfAborted();
    const history = historyOf(task, one);
    const exclude: ReadonlySet<number> = ranking === 'filtered' ? metItems(history) : new Set();
    const request = { ...whoAsks(task, one), history, exclude, depth, signal: options.signal };
    const answer = await askParts(parts, transforms, request);
    if (answer === null || 'doesNotFit' in answer)
      throw new InvalidResultError(
        parts.map(({ name }) => name).join('+'),
        'cannot answer for every user of the validation task; choose weights for systems that can.',
      );
    const target = task.log.items[one.to];
    if (target !== UNKNOWN_ITEM)
      grid.forEach((weights, i) => {
        const ranks = denseRanks(weightedSum(answer.scores, weights), target, exclude);
        if (!ranks) throw new InvalidResultError(parts.map(({ name }) => name).join('+'), 'gives a score that is not a number.');
        gains[i] += gainAt(ranks[ranking], depth) / task.cases.length;
      });
    options.onProgress?.({ done: done + 1, total: task.cases.length });
  }
  const best = gains.indexOf(Math.max(...gains));
  return { weights: grid[best], tried: grid.map((weights, i) => ({ weights, 'ndcg@10': gains[i] })) };
}

function defaultGrid(parts: readonly System[]): readonly (readonly number[])[] {
  if (parts.length === 2) return secondPartWeights.map((weight) => [1, weight]);
  throw new InvalidOptionError('grid', `say which weights to try for ${parts.length} systems; there is a grid for two.`);
}
