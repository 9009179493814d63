import type { InteractionLog } from './interaction-log.js';

/** What one request cost, counted by the system itself. */
export interface Cost {
  /** tokens that a language model read or wrote */
  readonly tokens: number;
  /** 2mnk over the matrix products that ran */
  readonly flops: number;
}

/** What the user did before the moment that is asked about. */
export interface History {
  /** [T], indices into the candidates' ids; -1 for an item outside the vocabulary */
  readonly items: Int32Array;
  /** [T] */
  readonly times?: Float64Array;
  /** the history is the events from .. to - 1 of the log (and of the columns that the log was made from) */
  readonly from: number;
  readonly to: number;
}

/** The items to rank: all of them, always. */
export interface Candidates {
  /** [V] */
  readonly ids: readonly string[];
  /** [V] */
  readonly titles?: readonly string[];
  /** [V] */
  readonly categories?: readonly (readonly string[])[];
}

/** One question to a ranking system. */
export interface RankRequest {
  readonly user: string;
  /** index into the log's users */
  readonly userIndex: number;
  readonly history: History;
  readonly candidates: Candidates;
  /** candidate indices that the answer must not hold; a system that returns dense scores may ignore it */
  readonly exclude: ReadonlySet<number>;
  /** how many items a list needs at most */
  readonly depth: number;
  readonly signal?: AbortSignal;
}

/** The request cannot be answered by this system, for example because the prompt is longer than the model's context. */
export interface DoesNotFit {
  readonly doesNotFit: string;
}

/** A score for every candidate, aligned with `candidates.ids`, or a list of the best, best first. */
export type RankResult = (
  | { readonly scores: Float32Array | Float64Array }
  | { readonly items: readonly { readonly id: string; readonly score: number }[] }
) & {
  readonly cost?: Cost;
};

/** One question to a classifying system. */
export interface ClassifyRequest {
  readonly user: string;
  readonly userIndex: number;
  readonly history: History;
  readonly candidates: Candidates;
  /** the labels to choose from, in the order that breaks ties */
  readonly labels: readonly string[];
  readonly signal?: AbortSignal;
}

/** The label chosen. */
export interface ClassifyResult {
  readonly label: string;
  readonly cost?: Cost;
}

/** What a system may learn from: for user u the events offsets[u] .. end[u] - 1 of the log, and nothing after them. */
export interface TrainingData {
  readonly log: InteractionLog;
  /** [U] */
  readonly end: Int32Array;
}

/** Anything that can be measured: a baseline, a model, a remote service. A plain object will do. */
export interface System {
  readonly name: string;
  /** baselines are what the others are compared with. Default 'system'. */
  readonly kind?: 'baseline' | 'system';
  /** called once before the first request */
  fit?(train: TrainingData): void | Promise<void>;
  /** `null` or `{ doesNotFit }`: the system's metrics are reported as null, with the reason */
  rank?(request: RankRequest): RankResult | DoesNotFit | null | Promise<RankResult | DoesNotFit | null>;
  classify?(request: ClassifyRequest): ClassifyResult | DoesNotFit | null | Promise<ClassifyResult | DoesNotFit | null>;
  /** training examples that the system has seen, for the report */
  readonly examplesSeen?: number;
  /** remarks for the report */
  readonly notes?: readonly string[];
}
