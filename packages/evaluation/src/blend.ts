import { checkRanking } from './answer.js';
import { averageRanks } from './descriptive.js';
import { InvalidOptionError, InvalidResultError } from './errors.js';
import type { Cost, DoesNotFit, RankRequest, System } from './system.js';

/** Brings a system's scores [V] to a scale on which they can be added to another's. */
export type ScoreTransform = (scores: Float64Array) => Float64Array;

/** Options of {@link blend}. */
export interface BlendOptions {
  /** Default: the parts' names joined by "+". */
  readonly name?: string;
  /** one per part, applied before weighting. Default: {@link zScores} for each. */
  readonly transforms?: readonly ScoreTransform[];
}

/** (score - mean) / standard deviation over the candidates; zeros where the scores do not vary. */
export const zScores: ScoreTransform = (scores) => {
  let sum = 0;
  let squares = 0;
  for (const score of scores) sum += score;
  const average = sum / scores.length;
  for (const score of scores) squares += (score - average) ** 2;
  const deviation = Math.sqrt(squares / scores.length);
  // A score that is no number is not hidden: every one becomes NaN.
  return deviation === 0 ? new Float64Array(scores.length) : scores.map((score) => (score - average) / deviation);
};

/** Natural logarithm of scores that are like probabilities, from 1e-12 up: for Mix beside an encoder's log-probabilities. */
export const logScores: ScoreTransform = (scores) => scores.map((score) => Math.log(Math.max(score, 1e-12)));

/** Rank from 0 (worst) to 1 (best), ties sharing the average: when only the order of a system's scores means anything. */
export const rankTransform: ScoreTransform = (scores) =>
  averageRanks(scores).map((rank) => (rank - 1) / Math.max(1, scores.length - 1));

/**
 * Several dense systems as one: the weighted sum of their transformed scores. Parts are fitted and asked with it. Weights are
 * chosen on validation items ({@link chooseBlend}), never on test items.
 */
export function blend(
  parts: readonly System[],
  weights: readonly number[],
  options: BlendOptions = {},
): System & Required<Pick<System, 'rank'>> {
  const { name = parts.map((part) => part.name).join('+'), transforms = parts.map(() => zScores) } = options;
  checkParts(parts, weights, transforms);
  return {
    name,
    async fit(train) {
      for (const part of parts) await part.fit?.(train);
    },
    async rank(request: RankRequest) {
      const answer = await askParts(parts, transforms, request);
      if (answer === null || 'doesNotFit' in answer) return answer;
      return { ...answer, scores: weightedSum(answer.scores, weights) };
    },
  };
}

/** What the parts answer to one request: their transformed scores, [V] each, and what they cost together. */
interface PartAnswers {
  readonly scores: readonly Float64Array[];
  readonly cost?: Cost;
}

/** Asks every part; the first that cannot answer speaks for all. */
export async function askParts(
  parts: readonly System[],
  transforms: readonly ScoreTransform[],
  request: RankRequest,
): Promise<PartAnswers | DoesNotFit | null> {
  const scores: Float64Array[] = [];
  let tokens = 0;
  let flops = 0;
  let counted = true;
  for (const [i, part] of parts.entries()) {
    const answer = part.rank ? checkRanking(part, await part.rank(request), request.candidates) : null;
    if (answer === null || 'doesNotFit' in answer) return answer;
    if (!('scores' in answer))
      throw new InvalidResultError(part.name, 'returns lists; only systems with a score for every candidate can be blended.');
    scores.push(transforms[i](Float64Array.from(answer.scores)));
    counted &&= answer.cost !== undefined;
    tokens += answer.cost?.tokens ?? 0;
    flops += answer.cost?.flops ?? 0;
  }
  return counted ? { scores, cost: { tokens, flops } } : { scores };
}

/** sum over parts p of weights_p scores_p, [V]. */
export function weightedSum(scores: readonly Float64Array[], weights: readonly number[]): Float64Array {
  const sum = new Float64Array(scores[0].length);
  scores.forEach((part, p) => part.forEach((score, j) => (sum[j] += weights[p] * score)));
  return sum;
}

/** One weight and one transform for each of at least one part. */
export function checkParts(parts: readonly System[], weights: readonly number[], transforms: readonly ScoreTransform[]): void {
  if (parts.length === 0) throw new InvalidOptionError('parts', 'give at least one system.');
  if (weights.length === parts.length && transforms.length === parts.length) return;
  throw new InvalidOptionError(
    'weights',
    `${parts.length} systems need as many weights and transforms, got ${weights.length} and ${transforms.length}.`,
  );
}
