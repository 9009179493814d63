import {
  blend,
  chooseBlend,
  evaluate,
  itemKnn,
  markov,
  mix,
  nextItem,
  popularity,
  type BlendChoice,
  type Outcome,
  type Report,
} from '@user-llm/evaluation';
import { encoderSystem, type Corpus } from '@user-llm/reference';
import { nextEvent, UserEncoder, type EncoderOptions, type PretrainOptions, type TrainingRecord } from '@user-llm/user-encoder';

/** One encoder, trained and measured. */
export interface EncoderQuality {
  readonly seed: number;
  readonly training: Pick<TrainingRecord, 'steps' | 'seconds' | 'best' | 'stillImproving' | 'validation'>;
  /** The weights of the encoder and of Mix, chosen on validation items. */
  readonly blend: BlendChoice;
  readonly report: Report;
  readonly outcomes: readonly Outcome[];
}

/**
 * Trains an encoder on all but the test items and ranks all items for them, beside the counting baselines, alone and blended with Mix. Its
 * best step and the blend are chosen by the validation items, which neither the encoder nor, for that choice, Mix has learned from.
 */
export async function encoderQuality(
  corpus: Corpus,
  shape: EncoderOptions & { readonly seed: number },
  training: PretrainOptions,
): Promise<EncoderQuality> {
  const { seed } = shape;
  const run = UserEncoder.create(corpus.tokenizer, shape).pretrain(corpus.known, {
    objective: nextEvent(),
    schedule: 'cosine',
    ...training,
  });
  for await (const news of run)
    if (news.kind === 'validation')
      process.stderr.write(
        `step ${news.step}: validation hit@10 ${news.hitAt10.toFixed(4)} ndcg@10 ${news.ndcgAt10.toFixed(4)}\n`,
      );
  const encoder = await run.result;
  try {
    const choice = await chooseBlend(
      [encoderSystem(encoder, corpus, corpus.train), mix()],
      nextItem(corpus.split, { on: 'validation' }),
    );
    process.stderr.write(`Mix weighs ${choice.weights[1]} beside the encoder\n`);
    const alone = encoderSystem(encoder, corpus);
    const outcomes: Outcome[] = [];
    const report = await evaluate({
      task: nextItem(corpus.split),
      systems: [popularity(), markov(), itemKnn(), mix(), alone, blend([alone, mix()], choice.weights, { name: 'encoder+mix' })],
      seed,
      onOutcome: (outcome) => void outcomes.push(outcome),
    });
    const { steps, seconds, validation, best, stillImproving } = encoder.training!;
    return { seed, training: { steps, seconds, best, stillImproving, validation }, blend: choice, report, outcomes };
  } finally {
    await encoder.dispose();
  }
}
