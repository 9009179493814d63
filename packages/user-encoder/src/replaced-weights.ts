import { WeightError, type Weights } from '@user-llm/onnx-autograd';

/**
 * An encoder's weights with others in their places: names that it does not have are left out, those not given stay.
 *
 * @throws WeightError for another shape or dtype
 */
export function replaced(own: Weights, given: Weights): Weights {
  const merged: Weights = new Map(own);
  for (const [name, { shape }] of own) {
    const next = given.get(name);
    if (!next) continue;
    if (next.dtype !== 'float32')
      throw new WeightError(name, `is ${next.dtype}, and the encoder computes in float32; convert it`);
    if (next.shape.join() !== shape.join())
      throw new WeightError(name, `is [${next.shape.join(', ')}], and the encoder has [${shape.join(', ')}]`);
    merged.set(name, { ...next, data: next.data.slice() });
  }
  return merged;
}
