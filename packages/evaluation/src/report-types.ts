import type { Interval } from './bootstrap.js';
import type { HistoryLengthRow } from './history-length.js';
import type { MachineDescription } from './machine.js';
import type { NextItemMetrics } from './ranking-metrics.js';
import type { ScalingRow } from './scaling.js';
import type { SplitDescription } from './split.js';

/** Comparison with the best baseline on the users that both answered. */
export interface Versus {
  readonly baseline: string;
  /** recall@10, filtered (next-item) or accuracy (favourite-genre): this system minus the baseline */
  readonly delta: number;
  /** 95 % paired bootstrap interval of the difference */
  readonly ci95: Interval;
  /** two-sided paired sign-flip test */
  readonly p: number;
  /** the same after Holm's adjustment over all comparisons of the task */
  readonly pHolm: number;
  readonly users: number;
}

/** A system's figures over some users: the metrics of its task. */
export interface SystemFigures {
  readonly users: number;
  readonly filtered?: NextItemMetrics;
  readonly unfiltered?: NextItemMetrics;
  readonly accuracy?: number | null;
  readonly macroF1?: number | null;
  /** 95 % bootstrap intervals over users; null where the system did not fit */
  readonly ci95: Readonly<Record<string, Interval | null>>;
  /** null for the best baseline itself, and where nothing can be compared */
  readonly vs: Versus | null;
}

/**
 * One system on one task. `filtered`, `unfiltered`, `accuracy` are over all users that the system was asked for (`users` says how many);
 * `sample`, where there is one, over the sample that every system answered: compare systems there.
 */
export interface SystemRow extends SystemFigures {
  readonly name: string;
  readonly task: 'next-item' | 'favourite-genre';
  readonly kind: 'baseline' | 'system';
  readonly sampled: boolean;
  /** figures on the seeded sample of test users that all systems answered; the best baseline there may be another */
  readonly sample?: SystemFigures;
  readonly latencyMs: { readonly p50: number | null; readonly p95: number | null };
  readonly tokensPerRequest: number | null;
  readonly flopsPerRequest: number | null;
  readonly fitSeconds?: number;
  readonly doesNotFit?: string;
  readonly examplesSeen?: number;
  readonly notes?: readonly string[];
}

/** A training curve; `validation` ones also tell whether the loss was still falling when training stopped. */
export interface Curve {
  /** the system that was trained */
  readonly name: string;
  readonly kind?: 'training' | 'validation';
  readonly points: readonly { readonly step: number; readonly seconds: number; readonly loss: number }[];
}

/** How a system was trained. */
export interface TrainingRecord {
  readonly name: string;
  readonly seconds?: number;
  readonly steps?: number;
  readonly examplesSeen?: number;
  readonly parameters?: number;
  /** which weights learned, in a word: 'full', 'lora', ... */
  readonly strategy?: string;
  /** overrides what the validation curve tells */
  readonly stillFalling?: boolean;
  readonly notes?: readonly string[];
}

/** What it costs to keep a text prompt's keys and values for each user: figures of serving alone, since the answers are the same. */
export interface PromptCacheFigures {
  /** as which the prompt stands in a comparison when it comes from the cache */
  readonly system: string;
  readonly users: number;
  /** means over users: tokens kept, and tokens left for a request to run */
  readonly tokensKept: number;
  readonly tokensPerRequest: number;
  readonly bytesPerUser: number;
  /** running the history and writing what it leaves: once for a user, and again after each new event */
  readonly writeMs: number;
  /** a whole ranking with the store read and its checksum, and one that runs the whole prompt */
  readonly latencyMs: { readonly p50: number; readonly p95: number };
  readonly withoutCacheMs: { readonly p50: number; readonly p95: number };
  /** share of the first ten items that both ways have in common */
  readonly topShared: number;
}

/** The data set, as the caller describes it. */
export interface DatasetDescription {
  readonly name: string;
  readonly simulated?: boolean;
  readonly users: number;
  readonly items: number;
  readonly events: number;
  readonly sha256?: string;
  readonly split?: string;
  readonly ties?: string;
}

/** What the caller adds to a report; further fields are kept as they are. */
export interface ReportFields {
  readonly dataset?: DatasetDescription;
  readonly machine?: MachineDescription | string;
  readonly durationSeconds?: number;
  readonly peakRssBytes?: number;
  readonly training?: readonly TrainingRecord[];
  readonly curves?: readonly Curve[];
  readonly scaling?: readonly ScalingRow[];
  readonly historyLength?: readonly HistoryLengthRow[];
  readonly promptCache?: PromptCacheFigures;
  readonly [further: string]: unknown;
}

/** The figures of a report, before they are put into words. */
export interface ReportContent extends ReportFields {
  readonly seed: number;
  readonly depth: number;
  readonly protocols: Readonly<Record<string, SplitDescription>>;
  readonly systems: readonly SystemRow[];
}

/** `report.json`. */
export interface ReportData extends ReportContent {
  /** plain words; the first sentence says where a User-LLM fell short */
  readonly summary: readonly string[];
}
