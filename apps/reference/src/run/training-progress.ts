import type { Progress } from './console-output.js';

interface Step {
  readonly step: number;
  readonly loss: number;
  readonly secondsLeft: number;
  readonly validationLoss?: number;
  readonly tokensPerSecond?: number;
  readonly examplesSeen?: number;
}

/** Shows a run that trains a language model until it ends: after so many seconds, or steps where those are given. */
export async function watchTraining(
  run: AsyncIterable<Step>,
  progress: Progress,
  seconds: number,
  steps?: number,
): Promise<void> {
  let validation = '';
  for await (const { step, loss, secondsLeft, validationLoss, tokensPerSecond = 0, examplesSeen = 0 } of run) {
    if (validationLoss !== undefined) validation = `, validation ${validationLoss.toFixed(3)}`;
    progress.update({
      fraction: steps === undefined ? 1 - secondsLeft / seconds : step / steps,
      secondsLeft,
      detail: `loss ${loss.toFixed(3)}${validation}, ${Math.round(tokensPerSecond)} tokens/s, ${examplesSeen} examples`,
    });
  }
}
