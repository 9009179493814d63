import type { AdaptOptions, LanguageModel, Run, TrainingProgress, TrainingRecord } from '@user-llm/cross-attention';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Example, ExampleSource, Naming } from '../examples.js';
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
  readonly options: AdaptOptions<Example['history']> & { readonly validation: { readonly examples: readonly Example[] } };
  /** Shows what is done besides training. */
  say(what: string): void;
  /** Shows a training until it ends. */
  watch(training: Run<TrainingProgress, unknown>): Promise<void>;
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
  readonly itemRows?: { readonly before: number; readonly fitted: number };
  /** Of a system that was aligned first. */
  readonly alignment?: AlignmentRecord;
}
