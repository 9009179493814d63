import { crossEntropy, weightedMean, where, type Random, type Tensor } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { vector } from '../event-feeds.js';
import { normalised } from '../heads.js';
import { checkNames } from '../option-names.js';
import { lastStates } from '../resampler.js';
import { part, type Sequence } from '../sequences.js';
import { excluded } from './item-loss.js';
import type { BoundObjective, Objective } from './objective.js';
import { readFeeds } from './rows.js';

export interface ContrastiveOptions {
  /** What similarities (cosines) are divided by. Default 0.1. */
  readonly temperature?: number;
  /** The fewest events of a sub-sequence, where a history has as many. Default 5. */
  readonly shortest?: number;
}

const viewsAxis = 'views';

/**
 * Two sub-sequences of one user's events have like states, those of other users have not (CoLES, Babaev et al. 2022, section 3: random
 * slices as two views of one user; the loss is the softmax over the other views of the batch, Chen et al. 2020, equation 1). It learns
 * who a user is rather than what comes next and has no item head: combine it with an objective that has.
 */
export function contrastive(options: ContrastiveOptions = {}): Objective {
  checkNames(options, ['temperature', 'shortest'], 'contrastive');
  const { temperature = 0.1, shortest = 5 } = options;
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new EncoderOptionError('temperature', `${temperature} is not a positive number`);
  if (!Number.isInteger(shortest) || shortest < 1)
    throw new EncoderOptionError('shortest', `${shortest} is not a positive whole number`);
  return {
    kind: 'contrastive',
    itemHead: 'none',
    ...{ temperature, shortest },
    bind: (run): BoundObjective => ({
      build({ builder, encoder, encode }) {
        const views = builder.scope('contrast');
        const { states } = encode(viewsAxis, [viewsAxis, 'viewEvents']);
        const lengths = views.input('lengths', [viewsAxis], 'int32');
        const partners = views.input('partners', [viewsAxis], 'int32');
        const loss = agreement(lastStates(encoder, states, { rows: null, lengths }), partners, lengths.greater(0), temperature);
        return { loss, parts: { contrastive: loss } };
      },
      feeds({ sequences, length, random }) {
        const longest = Math.ceil(length / 2);
        const stream = random('views');
        const first = sequences.map((row) => row && slice(row, shortest, longest, stream));
        const second = sequences.map((row) => row && slice(row, shortest, longest, stream));
        const rows = [...first, ...second];
        return {
          ...readFeeds(run, rows, longest, viewsAxis),
          'contrast.lengths': vector(rows.map((row) => row?.events.length ?? 0)),
          'contrast.partners': vector(rows.map((_, i) => (i + first.length) % rows.length)),
        };
      },
    }),
  };
}

/**
 * Mean of -log softmax(cosines / temperature)[partner] over the views that are there, among the others that are there.
 *
 * @param views [V, D]
 * @param partners int32 [V]
 * @param present booleans [V]
 */
export function agreement(views: Tensor, partners: Tensor, present: Tensor, temperature: number): Tensor {
  const [count] = views.shape;
  const builder = views.graph;
  const direction = normalised(views);
  const cosines = direction.matmul(direction, { transposeB: true }).mul(1 / temperature); // [V, V]
  const row = builder.range(count);
  const others = row
    .reshape([count, 1])
    .equal(row.reshape([1, count]))
    .not()
    .and(present.reshape([1, count]));
  const logits = where(others, cosines, builder.constant(excluded));
  return weightedMean(crossEntropy(logits, partners), present.cast('float32'));
}

/** A random run of events, every length from the shortest to the longest alike. */
function slice(sequence: Sequence, shortest: number, longest: number, random: Random): Sequence {
  const most = Math.min(longest, sequence.events.length);
  const least = Math.min(shortest, most);
  const size = least + random.integer(most - least + 1);
  const start = random.integer(sequence.events.length - size + 1);
  return part(sequence, start, start + size);
}
