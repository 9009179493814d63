import { crossEntropy, weightedMean, where, type Random, type Tensor } from '@user-llm/onnx-autograd';
import { EncoderOptionError, TrainingDataError } from '../errors.js';
import { userOf } from '../event-owner.js';
import { vector } from '../event-feeds.js';
import { normalised } from '../heads.js';
import { checkNames } from '../option-names.js';
import { lastStates } from '../resampler.js';
import { part, type Sequence } from '../sequences.js';
import { excluded } from './item-loss.js';
import type { BoundObjective, Objective, ObjectiveRun } from './objective.js';

export interface ContrastiveOptions {
  /** What similarities (cosines) are divided by. Default 0.1. */
  readonly temperature?: number;
  /** The fewest events of a sub-sequence, where a history has as many. Default 5. */
  readonly shortest?: number;
}

const viewsAxis = 'views';

/**
 * Two sub-sequences of one user's events have like states, those of other users have not (CoLES, Babaev et al. 2022, section 3: random
 * slices as two views of one user; the loss is the softmax over the other users' views in the batch and the view's partner, Chen et al.
 * 2020, equation 1). It learns who a user is rather than what comes next and has no item head: combine it with an objective that has.
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
    bind(run): BoundObjective {
      checkOthers(run);
      const { offsets } = run.events;
      return {
        build({ builder, encoder, encode }) {
          const scope = builder.scope('contrast');
          const { states } = encode(viewsAxis, [viewsAxis, 'viewEvents']);
          const input = (name: string): Tensor => scope.input(name, [viewsAxis], 'int32');
          const [lengths, partners, owners] = [input('lengths'), input('partners'), input('owners')];
          const views = lastStates(encoder, states, { rows: null, lengths });
          const loss = agreement(views, { partners, owners, present: lengths.greater(0) }, temperature);
          return { loss, parts: { contrastive: loss } };
        },
        feeds({ sequences, length, random }) {
          const longest = Math.ceil(length / 2);
          const stream = random('views');
          const first = sequences.map((row) => row && slice(row, shortest, longest, stream));
          const second = sequences.map((row) => row && slice(row, shortest, longest, stream));
          const rows = [...first, ...second];
          return {
            ...run.read(rows, longest, viewsAxis),
            'contrast.lengths': vector(rows.map((row) => row?.events.length ?? 0)),
            'contrast.partners': vector(rows.map((_, i) => (i + first.length) % rows.length)),
            'contrast.owners': vector(rows.map((row) => (row ? userOf(offsets, row.events[0]) : -1))),
          };
        },
      };
    },
  };
}

/** A user is told from others: without any there is nothing to learn. @throws EncoderOptionError, TrainingDataError */
function checkOthers({ batch, spans, events }: ObjectiveRun): void {
  if (batch < 2)
    throw new EncoderOptionError('batch', `contrastive tells the users of a batch apart, and ${batch} is one; give 2 or more`);
  if (spans.filter(({ start, end }) => end - start >= 2).length < 2)
    throw new TrainingDataError(
      events.users.length,
      events.offsets[events.users.length],
      'contrastive tells users apart, and fewer than two have two events or more to train on (where validation holds the last one out, that is three)',
    );
}

/** Whose the views of a batch are. */
interface Views {
  /** int32 [V]: the other view of the same window. */
  readonly partners: Tensor;
  /** int32 [V] */
  readonly owners: Tensor;
  /** booleans [V] */
  readonly present: Tensor;
}

/**
 * Mean of -log softmax(cosines / temperature)[partner] over the views that are there, among the partner and those of other owners: a user
 * with several windows in the batch is not to be told from himself.
 *
 * @param views [V, D]
 */
export function agreement(views: Tensor, { partners, owners, present }: Views, temperature: number): Tensor {
  const [count] = views.shape;
  const builder = views.graph;
  const direction = normalised(views);
  const cosines = direction.matmul(direction, { transposeB: true }).mul(1 / temperature); // [V, V]
  const column = (of: Tensor): Tensor => of.reshape([count, 1]);
  const row = (of: Tensor): Tensor => of.reshape([1, count]);
  const others = column(owners).equal(row(owners)).not().and(row(present));
  const counted = others.or(column(partners).equal(row(builder.range(count))));
  const logits = where(counted, cosines, builder.constant(excluded));
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
