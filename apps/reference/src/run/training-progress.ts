import type { Progress } from './console-output.js';

interface Step {
  readonly step: number;
  readonly loss: number;
  readonly secondsLeft: number;
  readonly validationLoss?: number;
  readonly tokensPerSecond?: number;
  readonly examplesSeen?: number;
  readonly unsaved?: Error;
}

/** What is said of a run whose last checkpoint could not be written. */
export const unsavedNote = (unsaved: Error | undefined): string => (unsaved ? `, no checkpoint: ${unsaved.message}` : '');

/** How much a run is of its stage: seconds in all, those of what comes after it, and its steps where those end it. */
export interface Extent {
  readonly seconds: number;
  readonly after?: number;
  readonly steps?: number | undefined;
}

/** Shows a run that trains a language model until it ends. */
export async function watchTraining(
  run: AsyncIterable<Step>,
  progress: Progress,
  { seconds, after = 0, steps }: Extent,
): Promise<void> {
  let validation = '';
  for await (const { step, loss, secondsLeft, validationLoss, tokensPerSecond = 0, examplesSeen = 0, unsaved } of run) {
    if (validationLoss !== undefined) validation = `, validation ${validationLoss.toFixed(3)}`;
    progress.update({
      fraction: steps === undefined ? 1 - (secondsLeft + after) / seconds : step / steps,
      secondsLeft: secondsLeft + after,
      detail: `loss ${loss.toFixed(3)}${validation}, ${Math.round(tokensPerSecond)} tokens/s, ${examplesSeen} examples${unsavedNote(unsaved)}`,
    });
  }
}
