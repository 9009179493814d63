import type { AdaptableModel, LanguageModel, TrainingRecord } from '@user-llm/cross-attention';
import type { TrainableEncoder, UserEncoder } from '@user-llm/user-encoder';
import { AlignmentPairs } from '../alignment-pairs.js';
import { validatedUsers } from '../examples.js';
import type { BaseKind } from '../system-specs.js';
import type { AdaptationTask } from './adaptation-task.js';
import { baseKind } from './language.js';

/** What an alignment's outcome depends on. */
export const alignment = {
  /** Of the time, or the examples, that a system has. */
  share: 0.2,
  /** Pairs that are met again in every epoch: their texts are read once, which takes a large model most of the time. */
  pairs: { scratch: 2048, pretrained: 512 } satisfies Record<BaseKind, number>,
  batch: 64,
  /** Last titles of a text. */
  titles: { scratch: 30, pretrained: 10 } satisfies Record<BaseKind, number>,
  rate: { scratch: 2e-3, pretrained: 1e-3 } satisfies Record<BaseKind, number>,
  /** The encoder is pretrained; more slowly than this it does not come near the texts in so short a time. */
  encoderRate: 0.3,
} as const;

/** What the report says of an alignment. */
export interface AlignmentRecord extends Pick<TrainingRecord, 'steps' | 'seconds' | 'examplesSeen' | 'stillFalling'> {
  /** Share of held-out users and texts that found each other, among `among`. */
  readonly accuracy: number;
  readonly among: number;
}

/** Where an alignment is kept while its system is not finished. */
export const alignmentCheckpoint = (file: string): string => `${file}.alignment`;

/** Steps of the alignment of a run that is measured in examples. */
export const alignmentSteps = (examples: number): number => Math.ceil((alignment.share * examples) / alignment.batch);

/** The first stage of a system that is aligned: what adaptation goes on from, and what the report says of it. */
export async function alignReader(
  { workspace, prompts, options, say }: AdaptationTask,
  adaptable: AdaptableModel<TrainableEncoder<UserEncoder>>,
): Promise<{ model: LanguageModel; encoder: UserEncoder; record: AlignmentRecord }> {
  const { run, seed, runtime, signal } = workspace;
  const kind = baseKind(workspace);
  const pairs = new AlignmentPairs(await workspace.corpus(), prompts, seed, alignment.titles[kind]);
  const held = pairs.validation(validatedUsers);
  const { examples } = run.settings;
  const seconds = alignment.share * (options.seconds ?? Infinity);
  const budget = examples === undefined ? { seconds } : { steps: alignmentSteps(examples) };
  const training = adaptable.align(pairs.training(alignment.pairs[kind]), {
    strategy: options.strategy === 'projection' ? 'projection' : 'encoder',
    ...budget,
    seed,
    batchSize: alignment.batch,
    learningRate: alignment.rate[kind],
    encoderRate: alignment.encoderRate,
    ...runtime,
    checkpoint: { file: alignmentCheckpoint(options.checkpoint!.file) },
    validation: { examples: held, ...(examples === undefined ? { everySeconds: seconds / 4 } : {}) },
    signal,
  });
  for await (const { loss, examplesPerSecond, secondsLeft } of training)
    say(`aligning: loss ${loss.toFixed(3)}, ${examplesPerSecond.toFixed(0)} users/s, ${secondsLeft.toFixed(0)} s left`);
  const { model, encoder, record } = await training.result;
  const { steps, seconds: taken, examplesSeen, stillFalling, validation, bestStep } = record;
  // The last step is validated, whatever the budget, so there is a best one.
  const accuracy = validation.find(({ step }) => step === bestStep)!.accuracy!;
  return {
    model,
    encoder: encoder as UserEncoder,
    record: { steps, seconds: taken, examplesSeen, stillFalling, accuracy, among: held.length },
  };
}
