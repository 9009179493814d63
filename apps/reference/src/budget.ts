/** Seconds that each kind of training may take. */
export interface Budget {
  readonly pretrain: number;
  /** The language model on the domain's text, before anything personal. */
  readonly language: number;
  /** Each user-reading model. Text prompts get this and the encoder's pretraining. */
  readonly adapt: number;
}

/** The share of a run that goes into training; the rest reads, encodes, evaluates and writes. */
const trainingShare = 0.78;
/** One pretraining, one language model, three user-reading models, two text prompts of pretraining and adaptation together. */
const pretrainWeight = 1.6;
const languageWeight = 1.2;
/** Reading what the encoder knows is learned sooner than that, from its own predictions. */
const adaptWeight = 0.8;
const parts = pretrainWeight + languageWeight + 3 * adaptWeight + 2 * (pretrainWeight + adaptWeight);

export function budgetOf(minutes: number): Budget {
  const unit = (minutes * 60 * trainingShare) / parts;
  return { pretrain: unit * pretrainWeight, language: unit * languageWeight, adapt: unit * adaptWeight };
}
