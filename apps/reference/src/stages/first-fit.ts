import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { AdaptableModel, ScoredExample } from '@user-llm/cross-attention';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '@user-llm/user-encoder';
import { z } from 'zod';
import type { HistoryReference } from '../examples.js';
import type { AdaptationTask } from './adaptation-task.js';
import { baseKind, firstFitFile } from './language.js';

/** Examples that rows of item tokens are fitted to: several for each number of a small model's state, fewer where they take long. */
const fittedExamples = { scratch: 1280, pretrained: 640 };
const leastFittedExamples = 256;
/** Of the time that the system has, for each of the two fits; the rest is for training. */
const fittedShare = 0.12;

/** What the fit before the training took: the one after it takes as much. */
const firstFitShape = z.object({ seconds: z.number(), batches: z.number() });
export type FirstFit = z.infer<typeof firstFitShape>;

type Reader = AdaptableModel<ReturnType<UserEncoder['trainable']>>;

const secondsSince = (began: number): number => (performance.now() - began) / 1000;

/**
 * Fits rows of item tokens to batches of scored examples, and says what that took; where a training goes on, its checkpoint has the rows as
 * they were, and the model stays as it is.
 */
export async function fitFirst(
  { workspace, batch: { users, moments }, options: { seconds = Infinity, checkpoint }, say }: AdaptationTask,
  adaptable: Reader,
  scored: (batches: number) => AsyncIterable<ScoredExample<HistoryReference>[]>,
): Promise<{ adaptable: Reader; first: FirstFit }> {
  const known = await readFirstFit(checkpoint.file);
  if (known) return { adaptable, first: known };
  const began = performance.now();
  const batchesOf = (examples: number): number => Math.ceil(examples / (users * moments));
  const least = batchesOf(leastFittedExamples);
  let batches = 0;
  const asLongAsThereIsTime = async function* () {
    for await (const some of scored(batchesOf(fittedExamples[baseKind(workspace)]))) {
      yield some;
      batches++;
      if (batches >= least && secondsSince(began) > fittedShare * seconds) return;
    }
  };
  say('fitting item tokens to what the encoder expects');
  const fitted = await adaptable.fitItemTokens(asLongAsThereIsTime(), { ...workspace.runtime, signal: workspace.signal });
  const first = { seconds: secondsSince(began), batches };
  await writeFileAtomically(firstFitFile(checkpoint.file), [Buffer.from(JSON.stringify(first))]);
  return { adaptable: fitted.adaptable, first };
}

/** The fit before a training whose checkpoint is there; undefined where there is none. */
async function readFirstFit(checkpoint: string): Promise<FirstFit | undefined> {
  if (!existsSync(checkpoint)) return undefined;
  const text = await readFile(firstFitFile(checkpoint), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : firstFitShape.parse(JSON.parse(text));
}
