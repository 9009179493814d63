import type { EventColumns } from '@user-llm/event-tokenizer';
import type { Dim, GraphBuilder, HostTensor, Random, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { Span } from '../span.js';
import type { EncoderConfig } from '../config.js';
import { EncoderOptionError } from '../errors.js';
import type { BagSizes } from '../event-feeds.js';
import type { EventInputs } from '../fusion.js';
import type { LabelTower } from '../label-tower.js';
import { checkCalled } from '../option-names.js';
import type { Sequence } from '../sequences.js';
import type { Repeats } from './taken-items.js';

/**
 * Where the scores of items come from: the table of the item's embedding (`item`), vectors that a label tower made of the items'
 * fields (`labels`), or nowhere.
 */
export type ItemHead = 'item' | 'labels' | 'none';

/** Whether a training step reads and changes the item's whole table, or those rows that its batch names. */
export type ItemTable = 'whole' | 'rows';

/** What an encoder is pretrained for. Its enumerable properties name it in checkpoints: equal properties, equal training. */
export interface Objective {
  readonly kind: string;
  /** Attention that the encoder must have; absent where either works. */
  readonly attention?: 'causal' | 'bidirectional';
  /** What scores items after training for this alone. */
  readonly itemHead: ItemHead;
  /** The objective for one encoder and its training events. @throws EncoderOptionError where they do not fit */
  bind(run: ObjectiveRun): BoundObjective;
}

/** Refuses what is no objective. @throws EncoderOptionError */
export function checkIsObjective(objective: Objective): void {
  checkCalled('objective', objective);
  if (typeof objective?.bind !== 'function')
    throw new EncoderOptionError('objective', `'${String(objective)}' is no objective; give nextEvent(), or another one`);
}

/** What an objective is bound to. */
export interface ObjectiveRun {
  readonly config: EncoderConfig;
  readonly events: EventColumns;
  /** Events of each user that may be trained on. */
  readonly spans: readonly Span[];
  /** Places that bags of categories have in a batch. */
  readonly bags: BagSizes;
  readonly itemTable: ItemTable;
  /** Rows of a batch. */
  readonly batch: number;
  /**
   * Feeds of the events that the encoder reads. Objectives whose `states` are those of the graph all give the same ones: to say something of
   * an event from those before it, the rows of the batch without their last events.
   *
   * @param rows [U], on the left of T places each
   * @param length T
   * @param prefix that the rows were given in `encode`; by default the inputs of the graph's `states`
   * @throws EncoderOptionError for a row of more events than that
   */
  readonly read: (rows: readonly (Sequence | null)[], length: number, prefix?: string) => Record<string, HostTensor>;
}

export interface BoundObjective {
  /** How items become vectors from their fields, where that is learned; the item head `labels` needs it. */
  readonly labelTower?: LabelTower | undefined;
  /** Whether the item head tells the next item from all others or from those alone that were not in the history. Default `allowed`. */
  readonly repeats?: Repeats | undefined;
  /** Adds its loss, a scalar, and what it reads to the graph. `parts` are reported at every step under these names. */
  build(graph: PretrainingGraph): { loss: Tensor; parts: Readonly<Record<string, Tensor>>; outputs?: Record<string, Tensor> };
  /** Feeds of the inputs that `build` declared. */
  feeds(batch: TrainingBatch): Record<string, HostTensor>;
  /** Weights that follow from the learned ones and that scoring needs; `evaluate` gives one of the `outputs`. */
  derived?(evaluate: (feeds: Record<string, HostTensor>, output: string) => Promise<HostTensor>): Promise<Weights>;
}

/** The graph that an objective joins. */
export interface PretrainingGraph {
  readonly builder: GraphBuilder;
  /** Scopes of the parameters: those of the encoder are kept for encoding, those of the heads for a second run. */
  readonly encoder: GraphBuilder;
  readonly heads: GraphBuilder;
  readonly config: EncoderConfig;
  /** States [U, T, D] of the events under the inputs `events.…`, made once for all objectives. */
  readonly states: Tensor;
  /** States of other rows of events, with inputs under another prefix and axes of other names. */
  encode(prefix: string, axes: readonly [Dim, Dim]): { states: Tensor; inputs: EventInputs };
}

/** One step's rows, before any objective made feeds of them. */
export interface TrainingBatch {
  /** Counted from 1. */
  readonly step: number;
  /** T. */
  readonly length: number;
  /** [U] sequences of at most T + 1 events; null is a row without any. */
  readonly sequences: readonly (Sequence | null)[];
  /** A stream of random numbers for each purpose, the same whenever this step is done. */
  random(purpose: string): Random;
}
