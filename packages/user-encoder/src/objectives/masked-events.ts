import type { Random } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { maskEvent } from '../masked-event.js';
import { checkNames } from '../option-names.js';
import { part, type Sequence } from '../sequences.js';
import { bindItemLoss, checkItemLoss, fullSoftmax, type ItemLoss } from './item-loss.js';
import { declareTargets, fieldLosses } from './next-event.js';
import type { BoundObjective, Objective } from './objective.js';
import { checkedWeights, predictedFields, type FieldWeights } from './predicted-fields.js';
import { targetFeeds } from './rows.js';
import { checkRepeats, declareTaken, repeatsOf, takenAroundEvents, type Repeats } from './taken-items.js';

export interface MaskedEventsOptions extends FieldWeights {
  /** Share of a row's events that are hidden, one at least. Default 0.2. */
  readonly share?: number;
  /** Share of the rows where the last event is the only one hidden, which is what scoring asks for. Default 0.1. */
  readonly last?: number;
  /** Of the item. Default `fullSoftmax()`. */
  readonly loss?: ItemLoss;
  /** As in `nextEvent`: with `never`, a hidden item is told from those that are nowhere else in the user's history. Default `auto`. */
  readonly repeats?: Repeats | 'auto';
}

const masksAxis = 'masks';
const takenScope = 'masked_taken';

/**
 * Predict the fields of hidden events from those before and after (Sun et al. 2019, BERT4Rec). The encoder has bidirectional
 * attention (`UserEncoder.create(tokenizer, { attention: 'bidirectional' })`); every field of a hidden event has the mask id. Heads
 * and weights are those of `nextEvent`. Only hidden events cost a softmax.
 */
export function maskedEvents(options: MaskedEventsOptions = {}): Objective {
  checkNames(options, ['share', 'last', 'weights', 'others', 'loss', 'repeats'], 'maskedEvents');
  const { share = 0.2, last = 0.1, loss = fullSoftmax(), repeats = 'auto' } = options;
  if (!(share > 0 && share < 1)) throw new EncoderOptionError('share', `${share} is outside (0, 1)`);
  if (!(last >= 0 && last <= 1)) throw new EncoderOptionError('last', `${last} is outside [0, 1]`);
  checkItemLoss(loss);
  checkRepeats(repeats);
  const settings = checkedWeights(options);
  return {
    kind: 'masked-events',
    attention: 'bidirectional',
    itemHead: 'item',
    ...{ ...settings, share, last, loss, repeats },
    bind(run): BoundObjective {
      const { config } = run;
      const predicted = predictedFields(settings, config.fields);
      const itemLoss = bindItemLoss(loss, run);
      const fields = predicted.map(({ field }) => field);
      const readsItem = fields.some((field) => field === config.fields[0]);
      const found = repeatsOf(repeats, run);
      const amongUntaken = readsItem && found === 'never';
      return {
        repeats: found,
        build(graph) {
          const { builder, states } = graph;
          const axes = [states.shape[0], masksAxis];
          const places = builder.scope('masked').input('places', axes, 'int32');
          const targets = declareTargets(builder, config, fields, axes);
          const taken = amongUntaken ? declareTaken(builder, takenScope, axes) : undefined;
          const hidden = states.reshape([-1, states.shape[2]]).gather(places.reshape([-1])); // [U masks, D]
          return fieldLosses(graph, predicted, itemLoss, hidden, targets, taken);
        },
        feeds({ sequences, length, random }) {
          // A row holds one event less than a window has.
          const rows = sequences.map((row) => row && part(row, Math.max(0, row.events.length - length), row.events.length));
          const feeds = run.read(rows, length);
          const masks = Math.ceil(share * length);
          const places = new Int32Array(rows.length * masks);
          const stream = random('masks');
          const hidden = rows.map((row, at) => {
            const hiding = row ? hiddenEvents(row, share, last, stream) : [];
            hiding.forEach((i, mask) => {
              places[at * masks + mask] = at * length + i;
              maskEvent(feeds, config.fields, at * length + i);
            });
            return hiding.map((i) => row!.events[i]);
          });
          const taken = amongUntaken ? takenAroundEvents(run, takenScope, rows, hidden, masks) : undefined;
          return {
            ...feeds,
            ...targetFeeds(
              run,
              fields,
              hidden.map((events) => Int32Array.from(events)),
              masks,
            ),
            'masked.places': { dtype: 'int32', shape: [rows.length, masks], data: places },
            ...(readsItem && itemLoss.feeds(random('negatives'), taken?.places)),
            ...taken?.feeds,
          };
        },
      };
    },
  };
}

/** Which events of a row are hidden. */
function hiddenEvents({ events }: Sequence, share: number, last: number, random: Random): number[] {
  if (random.next() < last) return [events.length - 1];
  const order = random.shuffle(Array.from(events, (_, i) => i));
  return order.slice(0, Math.max(1, Math.floor(share * events.length)));
}
