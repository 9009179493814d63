import { FIRST_VALUE_ID, UNKNOWN_ID } from '@user-llm/event-tokenizer';
import type { HostTensor, Random, Weights } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../errors.js';
import { eventFeeds, vector } from '../event-feeds.js';
import { eventsAxis, windowsAxis } from '../fusion.js';
import { labelTable, normalised } from '../heads.js';
import type { InputField } from '../input-fields.js';
import { labelPrefix, labelVectors, towerFields, type LabelTower } from '../label-tower.js';
import { checkNames } from '../option-names.js';
import { part } from '../sequences.js';
import { itemIds } from '../item-scores.js';
import { candidateSoftmax, excluded, itemCounts } from './item-loss.js';
import type { BoundObjective, Objective, ObjectiveRun, PretrainingGraph } from './objective.js';
import {
  candidatePlaces,
  checkRepeats,
  declareTaken,
  repeatsOf,
  takenBeforeEvents,
  takenCandidates,
  type Repeats,
} from './taken-items.js';

export interface DualEncoderOptions {
  /** Fields that describe an item, which its label is made of beside the item itself. Default: categories and texts. */
  readonly fields?: readonly string[];
  /** How many of the batch's labels every state is told from. Default 512. */
  readonly negatives?: number;
  /** What cosines are divided by. Default 0.07. */
  readonly temperature?: number;
  /** Share of the labels that are made of the other fields alone, so that an item never seen has one too. Default 0. */
  readonly unknown?: number;
  /** As in `nextEvent`: with `never`, the next item is told from those alone that the user has not taken yet. Default `auto`. */
  readonly repeats?: Repeats | 'auto';
}

const labels = 'labels';
const takenScope = 'retrieval_taken';
const takenCandidatesInput = 'retrieval.places_taken';

/**
 * Late fusion (paper, section 3.1: dual encoder): the state after some events is compared with the label of the next event's item, which
 * a tower of its own makes of the item's fields. The softmax runs over labels of the same batch; popular items stand among them more
 * often, which is taken off their scores (logQ correction, Yi et al. 2019). The towers share the fields' embeddings.
 *
 * An item's fields are those of its latest event in the log. After training the labels of all items are kept as one table, which
 * `scoreHistory` compares with the state.
 *
 * A user's first event is no target: for users without events combine it with `nextEvent`, which teaches the state of those.
 */
export function dualEncoder(options: DualEncoderOptions = {}): Objective {
  checkNames(options, ['fields', 'negatives', 'temperature', 'unknown', 'repeats'], 'dualEncoder');
  const { fields, negatives = 512, temperature = 0.07, unknown = 0, repeats = 'auto' } = options;
  if (!Number.isInteger(negatives) || negatives < 1)
    throw new EncoderOptionError('negatives', `${negatives} is not a positive whole number`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new EncoderOptionError('temperature', `${temperature} is not a positive number`);
  if (!(unknown >= 0 && unknown < 1)) throw new EncoderOptionError('unknown', `${unknown} is outside [0, 1)`);
  checkRepeats(repeats);
  return {
    kind: 'dual-encoder',
    attention: 'causal',
    itemHead: 'labels',
    ...{ fields: fields ?? null, negatives, temperature, unknown, repeats },
    bind(run) {
      const tower = { fields: labelFields(run.config.fields, fields), temperature, repeats: repeatsOf(repeats, run) };
      return new DualEncoder(run, tower, { negatives, unknown });
    },
  };
}

function labelFields(all: readonly InputField[], names: readonly string[] | undefined): string[] {
  for (const name of names ?? []) {
    const field = all.find((candidate) => candidate.name === name);
    if (!field)
      throw new EncoderOptionError(
        'fields',
        `the encoder reads no field '${name}'; it reads ${all.map((f) => f.name).join(', ')}`,
      );
    if (field.kind === 'time')
      throw new EncoderOptionError('fields', `'${name}' is a time, which describes no item; leave it out`);
  }
  return all
    .filter(({ kind, name }, i) => i === 0 || (names ? names.includes(name) : kind === 'categories' || kind === 'text'))
    .map(({ name }) => name);
}

/** Weights with the labels of all items, as the tower makes them of what `evaluate` computes with. */
export const labelsOfItems = (run: ObjectiveRun, tower: LabelTower, evaluate: Evaluate): Promise<Weights> =>
  new DualEncoder(run, tower, { negatives: 1, unknown: 0 }).derived(evaluate);

type Evaluate = (feeds: Record<string, HostTensor>, output: string) => Promise<HostTensor>;

class DualEncoder implements BoundObjective {
  private readonly fields: readonly InputField[];
  /** By item id: its latest event; -1 for one that has none. */
  private readonly eventOf: Int32Array;
  /** By item id: the logarithm of its share of the training events that can be labels. */
  private readonly logShare: Float64Array;
  private readonly items: Int32Array;

  constructor(
    private readonly run: ObjectiveRun,
    readonly labelTower: LabelTower,
    private readonly settings: { negatives: number; unknown: number },
  ) {
    const { config, events } = run;
    const { size } = config.fields[0] as { size: number };
    this.items = itemIds(config, events);
    this.eventOf = new Int32Array(size).fill(-1);
    this.fields = towerFields(config, labelTower);
    this.items.forEach((id, event) => (this.eventOf[id] = event));
    // An event that is held out speaks only for items that have no other.
    for (const { start, end } of run.spans) for (let event = start; event < end; event++) this.eventOf[this.items[event]] = event;
    // A user's first event is no label of a batch.
    const later = run.spans.map(({ start, end }) => ({ start: start + 1, end }));
    const counts = itemCounts({ ...run, spans: later }, size - FIRST_VALUE_ID);
    const total = counts.reduce((a, b) => a + b, 0);
    this.logShare = new Float64Array(size);
    counts.forEach((count, i) => (this.logShare[i + FIRST_VALUE_ID] = Math.log(Math.max(1, count) / total)));
  }

  get repeats(): Repeats | undefined {
    return this.labelTower.repeats;
  }

  build(graph: PretrainingGraph): ReturnType<BoundObjective['build']> {
    const { builder, config, states } = graph;
    const shape = [windowsAxis, eventsAxis];
    const retrieval = builder.scope('retrieval');
    const found = labelVectors(builder, config, this.labelTower); // [U, T, D]
    const rows = states.reshape([-1, config.width]);
    const target = retrieval.input('targets', shape, 'int32').reshape([rows.shape[0]]);
    const candidates = retrieval.input('places', ['candidates'], 'int32');
    const correction = retrieval.input('correction', ['candidates']);
    const vectors = found.reshape([-1, config.width]); // [N, D]
    const others = { vectors: vectors.gather(candidates), ids: target.gather(candidates), correction };
    const taken =
      this.repeats === 'never'
        ? takenCandidates(builder, takenCandidatesInput, 'candidates', declareTaken(builder, takenScope, shape))
        : undefined;
    const loss = candidateSoftmax(normalised(rows), vectors, others, target, taken);
    return { loss, parts: { 'dual-encoder': loss }, outputs: { [labels]: found } };
  }

  /** Feeds of the label tower for items [rows, length]; 0 is no item. */
  private labelFeeds(ids: readonly Int32Array[], length: number, random?: Random): Record<string, HostTensor> {
    const { events, bags } = this.run;
    const lists = ids.map((row) => row.map((id) => (id === 0 ? -1 : this.eventOf[id])));
    const feeds = eventFeeds(this.fields, events, lists, length, bags, { prefix: labelPrefix });
    const items = feeds[labelPrefix + this.fields[0].name].data as Int32Array;
    ids.forEach((row, at) =>
      row.forEach(
        (id, i) => (items[at * length + i] = id !== 0 && random && random.next() < this.settings.unknown ? UNKNOWN_ID : id),
      ),
    );
    return feeds;
  }

  feeds({ sequences, length, random }: Parameters<BoundObjective['feeds']>[0]): Record<string, HostTensor> {
    const targets = sequences.map((row) => {
      const ids = new Int32Array(length);
      row?.events.subarray(1).forEach((event, i) => {
        if (this.items[event] >= FIRST_VALUE_ID) ids[i] = this.items[event];
      });
      return ids;
    });
    const flat = new Int32Array(sequences.length * length);
    targets.forEach((row, at) => flat.set(row, at * length));
    const { negatives, unknown } = this.settings;
    const filled = Array.from(flat.keys()).filter((place) => flat[place] !== 0);
    const places = random('candidates').shuffle(filled).slice(0, negatives);
    // Few targets leave places empty: they take no part.
    const correction = new Float32Array(negatives).fill(excluded);
    places.forEach((place, i) => (correction[i] = -Math.log(places.length) - this.logShare[flat[place]]));
    const candidates = [...places, ...new Array<number>(negatives - places.length).fill(0)];
    const taken = this.repeats === 'never' ? takenBeforeEvents(this.run, takenScope, sequences, length, 1) : undefined;
    return {
      ...this.run.read(
        sequences.map((row) => row && part(row, 0, row.events.length - 1)),
        length,
      ),
      ...this.labelFeeds(targets, length, unknown > 0 ? random('labels') : undefined),
      'retrieval.targets': { dtype: 'int32', shape: [sequences.length, length], data: flat },
      'retrieval.places': vector(candidates),
      'retrieval.correction': { dtype: 'float32', shape: [negatives], data: correction },
      ...(taken && {
        ...taken.feeds,
        [takenCandidatesInput]: candidatePlaces(
          candidates.map((place) => flat[place]),
          taken.places,
        ),
      }),
    };
  }

  /** The labels of all items. */
  async derived(evaluate: Evaluate): Promise<Weights> {
    const { width } = this.run.config;
    const size = this.eventOf.length;
    const table = new Float32Array(size * width);
    const step = 512;
    for (let from = FIRST_VALUE_ID; from < size; from += step) {
      const count = Math.min(step, size - from);
      const ids = Array.from({ length: count }, (_, i) => Int32Array.of(from + i));
      const found = await evaluate(this.labelFeeds(ids, 1), labels);
      table.set(found.data as Float32Array, from * width);
    }
    return new Map([[`heads.${labelTable}`, { dtype: 'float32', shape: [size, width], data: table }]]);
  }
}
