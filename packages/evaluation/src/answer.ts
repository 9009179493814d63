import { InvalidResultError } from './errors.js';
import type { Candidates, ClassifyResult, DoesNotFit, RankResult, System } from './system.js';

/**
 * What a system answered to `rank`: types do not hold one in JavaScript to it, nor one that passes on what a service sent. Whether
 * ids are candidates, and numbers none of them NaN, is seen where they are used.
 *
 * @throws InvalidResultError
 */
export function checkRanking(system: System, answer: unknown, candidates: Candidates): RankResult | DoesNotFit | null {
  const { scores, ...list } = partsOf(answer);
  if (isRefusal(answer)) return answer as DoesNotFit | null;
  // Without scores that are there and undefined: which kind of ranking it is shows by what there is.
  if (scores === undefined && Array.isArray(list.items)) return list as unknown as RankResult;
  // Not instanceof: an array of another realm (a worker, a test runner) is the same thing.
  if (!ArrayBuffer.isView(scores) && !Array.isArray(scores))
    throw new InvalidResultError(
      system.name,
      'returned no ranking from rank(); return { scores }, one for each candidate, or { items: [{ id, score }] }, best first, or null.',
    );
  const { length } = scores as ArrayLike<number>;
  if (length !== candidates.ids.length)
    throw new InvalidResultError(
      system.name,
      `returned ${length} scores for ${candidates.ids.length} candidates; return one score for each.`,
    );
  // JSON has null in place of a NaN. A typed array holds nothing but numbers.
  if (Array.isArray(scores)) {
    const place = (scores as readonly unknown[]).findIndex((score) => typeof score !== 'number');
    if (place >= 0) {
      const score: unknown = scores[place];
      throw new InvalidResultError(
        system.name,
        `returned a score that is not a number: ${score === null ? 'null' : typeof score} for "${candidates.ids[place]}".`,
      );
    }
  }
  return answer as RankResult;
}

/** What a system answered to `classify`. @throws InvalidResultError */
export function checkLabel(system: System, answer: unknown): ClassifyResult | DoesNotFit | null {
  if (isRefusal(answer) || typeof partsOf(answer).label === 'string') return answer as ClassifyResult | DoesNotFit | null;
  throw new InvalidResultError(system.name, 'returned no label from classify(); return { label } or null.');
}

const partsOf = (answer: unknown): Record<string, unknown> => Object(answer) as Record<string, unknown>;

const isRefusal = (answer: unknown): boolean => answer === null || 'doesNotFit' in partsOf(answer);
