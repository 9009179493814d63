import { EncoderOptionError } from './errors.js';
import type { InputField } from './input-fields.js';

/** Predict the fields of the next event from the events before it (paper, section 3.1: autoregressive). */
export interface NextEventObjective {
  readonly kind: 'next-event';
  /** Weight of each field's cross-entropy in the average; see {@link nextEvent}. */
  readonly weights: Readonly<Record<string, number>>;
  /** Weight of the fields that `weights` does not name, the item excepted. */
  readonly others: number;
}

/** What an encoder is pretrained for. */
export type Objective = NextEventObjective;

export interface NextEventOptions {
  /** By field name; 0 leaves a field's head out. The item has 1 unless named. */
  readonly weights?: Readonly<Record<string, number>>;
  /** Weight of every field not named (never of the item). Default 0.1; 1 is the paper's plain average. */
  readonly others?: number;
}

/**
 * The paper's objective: the weighted average of the cross-entropies of the next event's fields. The item is what is asked for
 * later, so by default it has ten times the weight of every other field.
 *
 * Heads: categorical fields and number buckets share the table of their embedding; of a bag of categories each one is equally
 * right; of a time the gap is predicted. Texts have no head. Missing and unknown values are never targets.
 */
export function nextEvent({ weights = {}, others = 0.1 }: NextEventOptions = {}): NextEventObjective {
  for (const [name, weight] of Object.entries({ ...weights, others }))
    if (!(weight >= 0 && Number.isFinite(weight)))
      throw new EncoderOptionError(`weights.${name}`, `${weight} is not a weight of 0 or more`);
  return { kind: 'next-event', weights, others };
}

/** The fields with a head and their weights, normalised to a sum of 1; the item first. */
export function fieldWeights(
  objective: Objective,
  fields: readonly InputField[],
): { field: Exclude<InputField, { kind: 'text' }>; weight: number }[] {
  for (const name of Object.keys(objective.weights)) {
    const field = fields.find((candidate) => candidate.name === name);
    if (!field)
      throw new EncoderOptionError(
        `weights.${name}`,
        `the encoder reads no such field; it reads ${fields.map((f) => f.name).join(', ')}`,
      );
    if (field.kind === 'text' && objective.weights[name] > 0)
      throw new EncoderOptionError(`weights.${name}`, 'texts are read, not predicted; leave it out');
  }
  const weighted = fields.flatMap((field, i) => {
    const weight = objective.weights[field.name] ?? (i === 0 ? 1 : objective.others);
    return field.kind === 'text' || weight === 0 ? [] : [{ field, weight }];
  });
  const total = weighted.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) throw new EncoderOptionError('weights', 'every field has weight 0, so there is nothing to learn');
  return weighted.map(({ field, weight }) => ({ field, weight: weight / total }));
}
