import type { FitRowsOptions, ScoredExample } from '@user-llm/cross-attention';
import type { Example, HistoryReference } from '../examples.js';
import type { AdaptationTask } from './adaptation-task.js';
import { baseKind } from './language.js';

/** Of the time that a system has, for fitting the rows of its genres' tokens; the rest is for training. */
const fittedShare = 0.08;
/** Examples that they are fitted to: a dozen for each number of a small model's state, fewer where prompts are long. */
const mostExamples = 1536;
const leastExamples = 256;
const mostTokens = { scratch: 600_000, pretrained: 120_000 };
/** How strongly rows may be held at zero; the validation users say how strongly they are. */
const strengths = [1e-5, 1e-4, 1e-3, 1e-2];

/** What the rows of the genres' tokens are fitted to, and how. */
export interface GenreFit {
  readonly batches: AsyncIterable<ScoredExample<HistoryReference>[]>;
  readonly options: FitRowsOptions<HistoryReference> & { readonly validation: readonly Example[] };
}

/** Seconds that a system's training leaves for its genres; none where they have no tokens. */
export const genreSeconds = (task: AdaptationTask, seconds: number): number => (asksGenres(task) ? fittedShare * seconds : 0);

const asksGenres = ({ source, naming }: AdaptationTask): boolean => naming === 'item-tokens' && source.genres.length > 0;

/**
 * The fit of the rows of the genres' tokens to the genres' shares in what users had chosen by moments of the training events, once
 * everything else is trained: a tenth of the examples ask this question, from which training learns no more than the most common
 * answer, while the states that must tell which item comes next hold the user's taste already. The fitted rows stay if they rank the
 * validation users' genres better than the trained ones do.
 *
 * @returns undefined where genres have no tokens
 */
export function genreFit(task: AdaptationTask, { reach, seconds }: { reach: number; seconds: number }): GenreFit | undefined {
  if (!asksGenres(task)) return undefined;
  const { workspace, source, batch, validationLimits, say } = task;
  const { runtime, signal } = workspace;
  const validation = source.genreValidation(validationLimits);
  if (validation.length === 0) return undefined;
  async function* scored(): AsyncGenerator<ScoredExample<HistoryReference>[]> {
    say('fitting the tokens of genres');
    const began = performance.now();
    let [examples, tokens] = [0, 0];
    for (let step = 1; examples < mostExamples; step++) {
      const asked = source.genreShares(step, { ...batch, reach });
      examples += batch.users * batch.moments;
      tokens += asked.reduce((sum, { promptIds }) => sum + promptIds.length, 0);
      if (asked.length > 0) yield asked;
      const spent = performance.now() - began > 1000 * seconds || tokens > mostTokens[baseKind(workspace)];
      if (spent && examples >= leastExamples) return;
    }
  }
  return { batches: scored(), options: { ...runtime, signal, strength: strengths, validation } };
}
