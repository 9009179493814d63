import type { EventColumns, EventTokenizer } from '@user-llm/event-tokenizer';
import { encoderShape, pretrainingRate } from '@user-llm/reference';
import { UserEncoder, type EncoderOptions, type PretrainOptions } from '@user-llm/user-encoder';
import type { StudyOptions } from './options.js';

/** How one encoder of a study differs from the reference app's. */
export interface Variant {
  readonly name: string;
  readonly shape?: EncoderOptions;
  readonly training?: Pick<PretrainOptions, 'objective' | 'augmentation' | 'itemVectors'>;
}

/** What training one encoder took, for the result. */
export interface TrainingSummary {
  readonly name: string;
  readonly seed: number;
  readonly steps: number;
  readonly seconds: number;
  /** Whether the next item was told from all or from what its user had not taken: `auto` decides by the log, which a study may change. */
  readonly repeats: string | null;
  readonly bestStep: number | null;
  readonly validationNdcgAt10: number | null;
  readonly stillImproving: boolean;
}

export const untrained = (tokenizer: EventTokenizer, { shape }: Variant, seed: number, { threads }: StudyOptions): UserEncoder =>
  UserEncoder.create(tokenizer, { ...encoderShape(tokenizer), ...shape, seed }, { threads });

/** Trains an encoder as the reference app does, in shape, rate and schedule, but for what the variant says. */
export async function trained(
  tokenizer: EventTokenizer,
  events: EventColumns,
  variant: Variant,
  seed: number,
  options: StudyOptions,
): Promise<{ encoder: UserEncoder; summary: TrainingSummary }> {
  const { threads, budget } = options;
  const encoder = await untrained(tokenizer, variant, seed, options).pretrain(events, {
    ...variant.training,
    ...budget,
    ...pretrainingRate,
    threads,
  }).result;
  const { steps, seconds, repeats, best, stillImproving } = encoder.training!;
  const found = best && `, validation hit@10 ${best.hitAt10.toFixed(4)} ndcg@10 ${best.ndcgAt10.toFixed(4)} at step ${best.step}`;
  process.stderr.write(`${variant.name}, seed ${seed}: ${steps} steps in ${seconds.toFixed(0)} s${found ?? ''}\n`);
  return {
    encoder,
    summary: {
      name: variant.name,
      seed,
      steps,
      seconds,
      repeats: repeats ?? null,
      bestStep: best?.step ?? null,
      validationNdcgAt10: best?.ndcgAt10 ?? null,
      stillImproving,
    },
  };
}
