import type { Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { AdaptationError } from '../errors.js';
import { initialIntegrationWeights, partsOf } from './integration.js';
import type { Integration, UserShape } from './integration.js';

/** A way in, and its weights. */
interface Reading {
  readonly integration: Integration;
  readonly shape: UserShape;
  readonly weights: Weights;
}

/**
 * Weights of an integration for a decoder: what `known` has of a part that is the same, seeded ones of the others. Throws an `AdaptationError`
 * where a part of `known` is not in the integration, whose weights would be lost.
 */
export function readingWeights(
  { integration, shape }: Omit<Reading, 'weights'>,
  decoder: Decoder,
  seed: number,
  known: Reading | undefined,
): Weights {
  if (known === undefined) return initialIntegrationWeights(integration, decoder, shape, seed);
  const identityOf = (part: Integration, of: UserShape) => JSON.stringify([part.kind, part.layout, of.userTokens, of.userWidth]);
  const wanted = new Set(partsOf(integration).map((part) => identityOf(part, shape)));
  const lost = partsOf(known.integration).find((part) => !wanted.has(identityOf(part, known.shape)));
  if (lost !== undefined) {
    const { userTokens, userWidth } = known.shape;
    const settings = Object.keys(lost.layout).length === 0 ? '' : ` ${JSON.stringify(lost.layout)}`;
    const reads = `the model reads users by ${lost.kind}${settings} of ${userTokens} x ${userWidth} numbers, whose weights would be lost`;
    const other = partsOf(integration).find(({ kind }) => kind === lost.kind);
    const how =
      other === undefined
        ? 'name it again beside what is new (integration: [...]), or begin'
        : `what is given is ${JSON.stringify(other.layout)} of ${shape.userTokens} x ${shape.userWidth}; give the same, or begin`;
    throw new AdaptationError('integration', `${reads}: ${how} anew from model.withoutUserEmbeddings()`);
  }
  if (wanted.size === partsOf(known.integration).length) return known.weights;
  return new Map([...initialIntegrationWeights(integration, decoder, shape, seed), ...known.weights]);
}
