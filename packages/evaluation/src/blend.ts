import { averageRanks } from './descriptive.js';
import { InvalidOptionError, InvalidResultError } from './errors.js';
import type { RankRequest, RankResult, System } from './system.js';

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
  return deviation > 0 ? scores.map((score) => (score - average) / deviation) : new Float64Array(scores.length);
};

/** Natural logarithm of scores that are like probabilities, from 1e-12 up: for Mix beside an encoder's log-probabilities. */
export const logScores: ScoreTransform = (scores) => scores.map((score) => Math.log(Math.max(score, 1e-12)));

/** Rank from 0 (worst) to 1 (best), ties sharing the average: when only the order of a system's scores means anything. */
export const rankTransform: ScoreTransform = (scores) =>
  averageRanks(scores).map((rank) => (rank - 1) / Math.max(1, scores.length - 1));

/**
 * Several dense systems as one: the weighted sum of their transformed scores. Parts are fitted and asked with it. Choose weights on
 * validation users (`nextItem(split, { on: 'validation' })`), never on test users.
 */
export function blend(
  parts: readonly System[],
  weights: readonly number[],
  options: BlendOptions = {},
): System & Required<Pick<System, 'rank'>> {
  const { name = parts.map((part) => part.name).join('+'), transforms = parts.map(() => zScores) } = options;
  if (parts.length === 0) throw new InvalidOptionError('parts', 'give at least one system.');
  if (weights.length !== parts.length || transforms.length !== parts.length) {
    throw new InvalidOptionError(
      'weights',
      `${parts.length} systems need as many weights and transforms, got ${weights.length} and ${transforms.length}.`,
    );
  }
  return {
    name,
    async fit(train) {
      for (const part of parts) await part.fit?.(train);
    },
    async rank(request: RankRequest) {
      const scores = new Float64Array(request.candidates.ids.length);
      let tokens = 0;
      let flops = 0;
      let counted = true;
      for (let i = 0; i < parts.length; i++) {
        const answer: RankResult | { doesNotFit: string } | null = (await parts[i].rank?.(request)) ?? null;
        if (answer === null || 'doesNotFit' in answer) return answer;
        if (!('scores' in answer))
          throw new InvalidResultError(
            parts[i].name,
            'returns lists; only systems with a score for every candidate can be blended.',
          );
        const transformed = transforms[i](Float64Array.from(answer.scores));
        for (let j = 0; j < scores.length; j++) scores[j] += weights[i] * transformed[j];
        counted &&= answer.cost !== undefined;
        tokens += answer.cost?.tokens ?? 0;
        flops += answer.cost?.flops ?? 0;
      }
      return counted ? { scores, cost: { tokens, flops } } : { scores };
    },
  };
}
