import { adaptJointModel } from './adaptation/adapt.js';
import type { AdaptOptions } from './adaptation/adapt.js';
import type { ExampleSource } from './adaptation/examples.js';
import { fitItemRows, fitLabelRows } from './adaptation/fit-rows.js';
import type { FitRowsOptions, FittedRows, ScoredBatches } from './adaptation/fit-rows.js';
import type { JointModel } from './adaptation/joint-model.js';
import type { LoraAdapter } from './adaptation/lora-adapter.js';
import type { Adapted, TrainableEncoder } from './adaptation/trainable-encoder.js';
import type { TrainingProgress, TrainingRecord } from './adaptation/training-options.js';
import { alignJointModel } from './alignment/align.js';
import type { AlignmentSource, AlignOptions } from './alignment/align.js';
import { AdaptationError } from './errors.js';
import { withRows } from './items/item-tokens.js';
import type { NamedKind } from './items/item-tokens.js';
import type { LanguageModel } from './language-model.js';
import { Run } from './run.js';

export type AnyEncoder = TrainableEncoder<never>;
export type HistoryOf<E> = E extends TrainableEncoder<infer History> ? History : never;

/** A model to go on with whose rows were fitted, and how well. */
export type FittedModel<E extends AnyEncoder> = { readonly adaptable: AdaptableModel<E> } & Omit<FittedRows, 'rows'>;

/** A language model beside the encoder whose users it reads: ready to be trained together. */
export class AdaptableModel<E extends AnyEncoder> {
  constructor(
    /** In its trainable form. */
    readonly encoder: E,
    /** The model as it is before adapting: with closed gates it answers like its base. */
    readonly model: LanguageModel,
  ) {}

  /**
   * The model with item tokens whose rows answer as a teacher does: a ridge regression of the teacher's scores on the states after the
   * prompts, some seconds of work. Before training it is a start near the teacher, where the states hold what the teacher knows (a
   * closed gate holds nothing of a user); after training, with validation examples, it may find better rows than training did. Rejects with
   * an `AdaptationError` for scores of another length than the items, or that are not finite.
   *
   * @param examples batches of them, as many as fit into memory at once; a thousand or more in all
   * @returns the model to go on with, and the NDCG of the validation examples with the rows that there were and the fitted ones
   */
  fitItemTokens(examples: ScoredBatches<HistoryOf<E>>, options: FitRowsOptions<HistoryOf<E>> = {}): Promise<FittedModel<E>> {
    return this.#fitted('item', fitItemRows(this.#joint(), examples, options));
  }

  /**
   * The model with label tokens whose rows answer a question as `scores` say, which may be the truth (1 for the right label, 0 for the
   * others): a linear classifier of the states after the question. As `fitItemTokens` otherwise.
   */
  fitLabelTokens(examples: ScoredBatches<HistoryOf<E>>, options: FitRowsOptions<HistoryOf<E>> = {}): Promise<FittedModel<E>> {
    return this.#fitted('label', fitLabelRows(this.#joint(), examples, options));
  }

  async #fitted(kind: NamedKind, fit: Promise<FittedRows>): Promise<FittedModel<E>> {
    const { rows, ...found } = await fit;
    return { adaptable: new AdaptableModel(this.encoder, this.model.withRows(kind, rows)), ...found };
  }

  /**
   * An optional first stage, before `adapt`: draws a user's tokens, as they reach the language model, towards what the model itself reads
   * in a text about the same history, and away from other users' (see `alignmentDefinition`). The language model stays as it is and reads each
   * text once. Go on with the model and the encoder of the result, in its trainable form: `model.withUserEmbeddings({ encoder:
   * encoder.trainable(events), integration })` keeps what was trained where the integration is the same.
   */
  align(
    examples: AlignmentSource<HistoryOf<E>>,
    options: AlignOptions<HistoryOf<E>> = {},
  ): Run<TrainingProgress, { model: LanguageModel; encoder: Adapted<E>; record: TrainingRecord }> {
    const { model } = this;
    const joint = this.#joint();
    const { encoder, ...user } = joint.user;
    return new Run(async (emit) => {
      const run = alignJointModel(joint, examples, options);
      for await (const progress of run) emit(progress);
      const { integration, encoder: encoderWeights, record } = await run.result;
      const aligned = encoder.withWeights(encoderWeights);
      const reading = { ...user, encoder: aligned.manifest.hash, weights: integration };
      return { model: model.adapted({ user: reading }), encoder: aligned as Adapted<E>, record };
    });
  }

  #joint(): JointModel<HistoryOf<E>> & Required<Pick<JointModel<HistoryOf<E>>, 'user'>> {
    const { model } = this;
    if (model.user === undefined) throw new AdaptationError('model', 'internal: it reads no users');
    const encoder = this.encoder as unknown as TrainableEncoder<HistoryOf<E>>;
    const rows = { itemRows: model.itemTokens?.rows, labelRows: model.labelTokens?.rows };
    return { decoder: model, user: { ...model.user, encoder }, ...rows };
  }

  /**
   * Trains by a strategy, loss on the answers' tokens. Encode every user with the adapted encoder before the model is served: it reads
   * no other's embeddings. That encoder is what `withWeights` of the trainable one gives, for `@user-llm/user-encoder` a `UserEncoder`.
   */
  adapt(
    examples: ExampleSource<HistoryOf<E>>,
    options: AdaptOptions<HistoryOf<E>>,
  ): Run<TrainingProgress, { model: LanguageModel; encoder: Adapted<E>; record: TrainingRecord; lora?: LoraAdapter }> {
    const { model } = this;
    const joint = this.#joint();
    const { encoder, ...user } = joint.user;
    return new Run(async (emit) => {
      const run = adaptJointModel(joint, examples, options);
      for await (const progress of run) emit(progress);
      const { decoder, integration, itemRows, labelRows, encoder: encoderWeights, record, lora } = await run.result;
      const adapted = encoder.withWeights(encoderWeights!);
      return {
        model: model.adapted({
          weights: decoder.weights,
          user: { ...user, encoder: adapted.manifest.hash, weights: integration! },
          items: withRows(model.itemTokens, itemRows),
          labels: withRows(model.labelTokens, labelRows),
          training: record,
        }),
        encoder: adapted as Adapted<E>,
        record,
        ...(lora && { lora }),
      };
    });
  }
}
