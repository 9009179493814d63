import { initialWeights, Random, type Weights } from '@user-llm/onnx-autograd';
import type { EventColumns } from '@user-llm/event-tokenizer';
import { coOccurrence } from './co-occurrence.js';
import type { EncoderConfig } from './config.js';
import { itemIds } from './item-scores.js';
import { leadingVectors } from './leading-vectors.js';
import { inferenceDefinition } from './model.js';
import type { Span } from './span.js';

/**
 * What the item's table starts from: vectors of which items stand near each other in histories, or the encoder's own, as they are.
 */
export type ItemVectors = 'co-occurrence' | 'as-they-are';

/** Of larger catalogues the vectors take too much memory to be made unasked. */
const mostItems = 2 ** 17;

/** Largest score of an item at first, for a vector of the usual length. */
const firstScore = 8;

/** What is done unasked: vectors are made where the table is as random as it was created, and not very large. */
export function itemVectorsOf(asked: ItemVectors | undefined, config: EncoderConfig, weights: Weights): ItemVectors {
  if (asked !== undefined) return asked;
  const { name, size } = tableOf(config);
  if (size > mostItems) return 'as-they-are';
  const created = initialWeights(inferenceDefinition(config).parameters, config.seed).get(name)!.data;
  const own = weights.get(name)!.data;
  return created.every((value, i) => value === own[i]) ? 'co-occurrence' : 'as-they-are';
}

/**
 * The weights with an item's table whose rows are near each other where their items are near each other in histories: E with E E^T close
 * to the items' positive pointwise mutual information (Levy and Goldberg, NIPS 2014: what word2vec does, in one step), added to
 * what is there. An encoder lets the last item through at first, and compares it with the table: it begins with what counting neighbours knows.
 *
 * @param spans events of each user that may be trained on
 */
export function withItemVectors(config: EncoderConfig, weights: Weights, events: EventColumns, spans: readonly Span[]): Weights {
  const { name, size, width } = tableOf(config);
  const matrix = coOccurrence(itemIds(config, events), spans, size);
  const { vectors, values } = leadingVectors(matrix, width, Random.of(config.seed, 'item vectors'));
  const data = new Float32Array(size * width);
  let squares = 0;
  let rows = 0;
  for (let item = 0; item < size; item++) {
    let square = 0;
    for (let i = item * width; i < (item + 1) * width; i++) {
      data[i] = vectors[i] * Math.sqrt(values[i % width]);
      square += data[i] ** 2;
    }
    squares += square;
    if (square > 0) rows++;
  }
  if (rows === 0) return weights;
  // States have a length of sqrt(D), so that scores are this long at first.
  const scale = firstScore / Math.sqrt(width) / Math.sqrt(squares / rows);
  const own = weights.get(name)!;
  return new Map(weights).set(name, { ...own, data: data.map((value, i) => Number(own.data[i]) + scale * value) });
}

function tableOf({ fields }: EncoderConfig): { name: string; size: number; width: number } {
  const { name, size, width } = fields[0] as { name: string; size: number; width: number };
  return { name: `encoder.fields.${name}`, size, width };
}
