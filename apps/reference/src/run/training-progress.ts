import type { Progress } from './console-output.js';

interface Step {
  readonly step: number;
  readonly loss: number;
  readonly secondsLeft: number;
  readonly validationLoss?: number;
  readonly tokensPerSecond?: number;
  readonly examplesSeen?: number;
}

/** Shows a run that trains a language model until it ends. */
export async function watchTraining(run: AsyncIterable<Step>, progress: Progress, seconds: number): Promise<void> {
  let validation = '';
  for await (const { loss, secondsLeft, validationLoss, tokensPerSecond = 0, examplesSeen = 0 } of run) {
    if (validationLoss !== undefined) validation = `, validation ${validationLoss.toFixed(3)}`;
    progress.update({
      fraction: 1 - secondsLeft / seconds,
      secondsLeft,
      detail: `loss ${loss.toFixed(3)}${validation}, ${Math.round(tokensPerSecond)} tokens/s, ${examplesSeen} examples`,
    });
  }
}
