import { concat, type Dim, type GraphBuilder, type Tensor } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from '../config.js';
import { eventsAxis, fieldTable, fieldRows, windowsAxis, type EventInputs } from '../fusion.js';
import { fieldHead, fieldLoss, targetName, type PredictedField } from '../heads.js';
import { checkNames } from '../option-names.js';
import { startState } from '../resampler.js';
import { part, type Sequence } from '../sequences.js';
import { bindItemLoss, checkItemLoss, fullSoftmax, type BoundItemLoss, type ItemLoss, type ItemVectors } from './item-loss.js';
import type { BoundObjective, Objective, PretrainingGraph } from './objective.js';
import { checkedWeights, predictedFields, type FieldWeights } from './predicted-fields.js';
import { targetFeeds } from './rows.js';
import { checkRepeats, declareTaken, repeatsOf, takenBeforeEvents, type Repeats, type TakenItems } from './taken-items.js';

export interface NextEventOptions extends FieldWeights {
  /** Of the item; the other fields have the full softmax of their few values. Default `fullSoftmax()`. */
  readonly loss?: ItemLoss;
  /**
   * Whether users take an item again. `never`: the next item is told from those alone that the user has not taken yet, as a ranking
   * that leaves these out asks for it. Default `auto`: `never` where at most one event in a hundred is of an item that its user had
   * taken; an event of the same item at the same time as the one before it is one that the log says twice.
   */
  readonly repeats?: Repeats | 'auto';
}

/**
 * Predict the fields of the next event from the events before it (paper, section 3.1: autoregressive): the weighted average of the
 * cross-entropies of its fields. The item is what is asked for later, so by default it has ten times the weight of every other field.
 * A user's first event is predicted from no events, so that users without any are known too.
 *
 * Heads: categorical fields and number buckets share the table of their embedding; of a bag of categories each one is equally
 * right; of a time the gap is predicted. Texts have no head. Missing and unknown values are never targets.
 */
export function nextEvent(options: NextEventOptions = {}): Objective {
  checkNames(options, ['weights', 'others', 'loss', 'repeats'], 'nextEvent');
  const { loss = fullSoftmax(), repeats = 'auto' } = options;
  checkItemLoss(loss);
  checkRepeats(repeats);
  const settings = checkedWeights(options);
  return {
    kind: 'next-event',
    attention: 'causal',
    itemHead: 'item',
    ...{ ...settings, loss, repeats },
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
          const { builder, encoder, states } = graph;
          const targets = declareTargets(builder, config, fields, targetAxes);
          const taken = amongUntaken ? declareTaken(builder, takenScope, targetAxes) : undefined;
          return fieldLosses(graph, predicted, itemLoss, withStart(encoder, states), targets, taken);
        },
        feeds({ sequences, length, random }) {
          const taken = amongUntaken ? takenBeforeEvents(run, takenScope, sequences, length + 1) : undefined;
          return {
            ...run.read(
              sequences.map((row) => row && part(row, 0, row.events.length - 1)),
              length,
            ),
            ...targetFeeds(
              run,
              fields,
              sequences.map((row) => row && (row.first ? row.events : laterEvents(row))),
              length + 1,
            ),
            ...(readsItem && itemLoss.feeds(random('negatives'), taken?.places)),
            ...taken?.feeds,
          };
        },
      };
    },
  };
}

const takenScope = 'taken';

/** A state more than there are events: the one of no events. */
const targetAxes = [windowsAxis, `${eventsAxis}+1`] as const;

/** A row's events without the first, which nothing before it was read for. */
function laterEvents({ events }: Sequence): Int32Array {
  const later = events.slice();
  later[0] = -1;
  return later;
}

/** States [U, T, D] behind the state of no events: [U (T + 1), D]. */
function withStart(encoder: GraphBuilder, states: Tensor): Tensor {
  const [rows, , width] = states.shape;
  const start = startState(encoder, Number(width)).reshape([1, 1, width]).expand([rows, 1, width]);
  return concat([start, states], 1).reshape([-1, width]);
}

/** Inputs of the fields' targets, by name without prefix. */
export function declareTargets(
  builder: GraphBuilder,
  config: EncoderConfig,
  fields: readonly PredictedField[],
  shape: readonly Dim[],
): EventInputs {
  const targets = builder.scope('targets');
  return new Map(
    fields.map((field) => {
      const name = targetName(field);
      // A bag has the same number of places as in the inputs.
      const bag = field.kind === 'categories' ? [`bag${config.fields.indexOf(field)}`] : [];
      return [name, targets.input(name, [...shape, ...bag], 'int32')] as const;
    }),
  );
}

type ItemField = Extract<PredictedField, { size: number }>;

const itemVectors = (encoder: GraphBuilder, item: ItemField): ItemVectors => ({
  all: () => fieldTable(encoder, item),
  of: (ids) => fieldRows(encoder, item, ids),
});

/** The weighted average of the fields' losses, and each of them. @param states [N, D] */
export function fieldLosses(
  { builder, encoder, heads, config }: PretrainingGraph,
  predicted: readonly { field: PredictedField; weight: number }[],
  itemLoss: BoundItemLoss,
  states: Tensor,
  targets: EventInputs,
  taken?: TakenItems,
): { loss: Tensor; parts: Record<string, Tensor> } {
  const parts: Record<string, Tensor> = {};
  const weighted = predicted.map(({ field, weight }) => {
    const target = targets.get(targetName(field))!;
    const ids = target.reshape(field.kind === 'categories' ? [states.shape[0], target.shape.at(-1)!] : [states.shape[0]]);
    const loss =
      field === config.fields[0]
        ? itemLoss.build(builder, states, itemVectors(encoder, field as ItemField), target, taken)
        : fieldLoss(field, fieldHead(heads, encoder, field, states), ids);
    parts[field.name] = loss;
    return loss.mul(weight);
  });
  return { loss: weighted.reduce((a, b) => a.add(b)), parts };
}
