import type { AdaptOptions, LanguageModel, Run, TrainingProgress, TrainingRecord } from '@user-llm/cross-attention';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Example, ExampleSource, Naming, ValidationLimits } from '../examples.js';
import type { Prompts } from '../prompts.js';
import type { Batch, SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import type { AlignmentRecord } from './align-reader.js';

/** A system to be trained, with all that its training needs. */
export interface AdaptationTask {
  readonly workspace: Workspace;
  readonly spec: SystemSpec;
  /** Examples of a step. */
  readonly batch: Batch;
  /** What it starts from, with item tokens where items are named by them. */
  readonly model: LanguageModel;
  readonly prompts: Prompts;
  readonly naming: Naming;
  readonly source: ExampleSource;
  readonly options: AdaptOptions<Example['history']> & {
    readonly checkpoint: { readonly file: string };
    readonly validation: { readonly examples: readonly Example[] };
  };
  readonly validationLimits: ValidationLimits;
  /** Shows what is done besides training. */
  say(what: string): void;
  /** Shows a training until it ends. */
  watch(training: Run<TrainingProgress, unknown>, after?: number): Promise<void>;
}

/** Mean NDCG by the rows that training left, and by the fitted ones. */
export interface FitComparison {
  readonly before: number;
  readonly fitted: number;
}

/** What came of it. */
export interface AdaptedSystem {
  readonly model: LanguageModel;
  /** The encoder that was trained with it. */
  readonly encoder?: UserEncoder;
  readonly record: TrainingRecord;
  /** Seconds beside those of the record. */
  readonly otherSeconds: number;
  /** Mean NDCG of the validation items by the rows of item tokens that training left, and by those fitted to the teacher after it. */
  readonly itemRows?: FitComparison;
  /** The same of the validation users' favourite genres, by the rows of the genres' tokens and the truth. */
  readonly genreRows?: FitComparison;
  /** Of a system that was aligned first. */
  readonly alignment?: AlignmentRecord;
}
