import { EncoderOptionError } from '../errors.js';
import type { PredictedField } from '../heads.js';
import type { InputField } from '../input-fields.js';

export interface FieldWeights {
  /** By field name; 0 leaves a field's head out. The item has 1 unless named. */
  readonly weights?: Readonly<Record<string, number>>;
  /** Weight of every field not named (never of the item). Default 0.1; 1 is the paper's plain average. */
  readonly others?: number;
}

/** Checks what does not need an encoder, and fills in. */
export function checkedWeights({ weights = {}, others = 0.1 }: FieldWeights): Required<FieldWeights> {
  for (const [name, weight] of Object.entries({ ...weights, others }))
    if (!(weight >= 0 && Number.isFinite(weight)))
      throw new EncoderOptionError(`weights.${name}`, `${weight} is not a weight of 0 or more`);
  return { weights, others };
}

/** The fields with a head and their weights, normalised to a sum of 1; the item first. */
export function predictedFields(
  { weights, others }: Required<FieldWeights>,
  fields: readonly InputField[],
): { field: PredictedField; weight: number }[] {
  for (const name of Object.keys(weights)) {
    const field = fields.find((candidate) => candidate.name === name);
    if (!field)
      throw new EncoderOptionError(
        `weights.${name}`,
        `the encoder reads no such field; it reads ${fields.map((f) => f.name).join(', ')}`,
      );
    if (field.kind === 'text' && weights[name] > 0)
      throw new EncoderOptionError(`weights.${name}`, 'texts are read, not predicted; leave it out');
  }
  const weighted = fields.flatMap((field, i) => {
    const weight = weights[field.name] ?? (i === 0 ? 1 : others);
    return field.kind === 'text' || weight === 0 ? [] : [{ field, weight }];
  });
  const total = weighted.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) throw new EncoderOptionError('weights', 'every field has weight 0, so there is nothing to learn');
  return weighted.map(({ field, weight }) => ({ field, weight: weight / total }));
}
