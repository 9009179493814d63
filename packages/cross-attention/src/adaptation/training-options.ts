import type { AdaptationExample } from './examples.js';

/** How long to train: until the first of these is reached. `epochs` needs a list of examples. */
export interface TrainingBudget {
  readonly steps?: number;
  readonly epochs?: number;
  /** Wall-clock, everything included: making graphs, validation, checkpoints, and what was spent before a resume. */
  readonly seconds?: number;
}

/** How anything is trained, whatever it learns from. */
export interface TrainingSettings extends TrainingBudget {
  /** Seeds first weights, shuffling and dropout. Default 1. */
  readonly seed?: number;
  /** Examples of one step of a list; a function makes its own batches. Default 64. */
  readonly batchSize?: number;
  /** Peak learning rate of AdamW. Default 1e-3. */
  readonly learningRate?: number;
  /** A factor on the learning rate of the encoder below its resampler, which is pretrained; for a model that reads users. Default 1. */
  readonly encoderRate?: number;
  /** Share of the budget in which the learning rate rises; a cosine takes it down after that. Default 0.1. */
  readonly warmup?: number;
  /** Decoupled weight decay of matrices. Default 0.1. */
  readonly weightDecay?: number;
  /** Gradients are clipped to this global norm. Default 1. */
  readonly clipNorm?: number;
  /** Threads of one operation; the machine's cores by default. */
  readonly threads?: number;
  /**
   * `packed` lays weights that do not learn out for the processor, in the training sessions themselves: steps of a large model take an eighth
   * less time, after some seconds more at the start and with those weights up to four times more in memory. Default: `fed`, once for all.
   */
  readonly frozenWeights?: 'fed' | 'packed';
  /** Stops between two steps, writes the checkpoint, and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * Where the run is kept: it goes on from there when the file is there already, with a larger or smaller budget if you like, and refuses
   * to where it was another run: other options, weights to start from, list of examples or mixture of tasks, whose histories are not
   * compared. Two more files lie beside it; a folder that is not there is made. Written when the signal aborts, at the end, and after every so many steps or
   * seconds, without either every 300 seconds, so that what ends the process ends no more of the run. A writing that fails, a disk being
   * full, ends nothing (`unsaved` of the progress), unless the signal aborted.
   */
  readonly checkpoint?: { readonly file: string; readonly everySteps?: number; readonly everySeconds?: number };
}

export interface TrainingOptions<History = unknown> extends TrainingSettings {
  /** A factor on the learning rate of the rows of item and label tokens, which may be fitted. Default 1. */
  readonly itemRate?: number;
  /**
   * Most text tokens that run at once: a larger batch is cut into parts whose gradients are added. Default: as many as keep about a
   * gigabyte for the backward pass, at most 8,192. The step is on the mean over the same examples. Its numbers are the same where examples do not
   * depend on their company, as in a model that reads no users; an encoder draws dropout masks for each part anew, and its histories of one
   * user may share a window within a part.
   */
  readonly tokensPerPart?: number;
  /**
   * Makes a layer's inner values again when its gradient is computed, in place of holding those of all layers: less memory for about a
   * third more work. The numbers are the same. Default false.
   */
  readonly recompute?: boolean;
  readonly validation?: ValidationOptions<History>;
}

export interface ValidationOptions<History> extends ValidationSchedule {
  /** Examples that are not trained on. The weights that do best on them are kept. */
  readonly examples: readonly AdaptationExample<History>[];
  /**
   * What they do best at: the lowest loss, or the best ranking of the items that the examples name by their tokens (the highest NDCG without
   * a cutoff), which need not have the lowest loss. Default: loss.
   */
  readonly by?: 'loss' | 'ranking';
}

/** When what is trained is held against examples that it does not learn from, and when that counts. */
export interface ValidationSchedule {
  /**
   * Share of the budget, 0 to 1, from which on weights are kept. Before it the learning rate is high: what is best then on a few hundred
   * examples is mostly chance, and nothing that the examples do not ask for has settled. Default 0.
   */
  readonly keepFrom?: number;
  /** How often; by default ten times in a budget of steps, twelve in one of seconds. */
  readonly everySteps?: number;
  readonly everySeconds?: number;
  /** Stop after so many validations without a better one. Default: never. */
  readonly patience?: number;
}

/** One step's news. */
export interface TrainingProgress {
  /** Counted from 1. */
  readonly step: number;
  /** Mean loss per weighted token of this step's batch. */
  readonly loss: number;
  /** Set when this step was followed by a validation. */
  readonly validationLoss?: number;
  /** Of an alignment, with `validationLoss`: the share of held-out users and texts that found each other. */
  readonly validationAccuracy?: number;
  /** Text tokens (without padding) per second of late. */
  readonly tokensPerSecond: number;
  /** Examples per second of late. */
  readonly examplesPerSecond: number;
  readonly examplesSeen: number;
  readonly secondsLeft: number;
  /** Why the last checkpoint that was due could not be written; the run goes on. */
  readonly unsaved?: Error;
}

/** What a training run was: JSON. */
export interface TrainingRecord {
  readonly steps: number;
  readonly seconds: number;
  readonly examplesSeen: number;
  /** Text tokens without padding. */
  readonly tokensSeen: number;
  /** Mean loss since the point before; a few hundred points at most. */
  readonly curve: readonly { readonly step: number; readonly seconds: number; readonly loss: number }[];
  /** With the NDCG of a validation by ranking, the accuracy of an alignment; `early` where it was before weights were kept. */
  readonly validation: readonly {
    readonly step: number;
    readonly seconds: number;
    readonly loss: number;
    readonly ndcg?: number;
    readonly accuracy?: number;
    readonly early?: boolean;
  }[];
  /** The step whose weights were kept. */
  readonly bestStep: number;
  readonly stoppedEarly: boolean;
  /** Whether the loss (on validation examples, where there are some) was still going down when the run ended. */
  readonly stillFalling: boolean;
  readonly trainedParameters: number;
  readonly options: Readonly<Record<string, unknown>>;
  /** Why the checkpoint of the end could not be written. */
  readonly unsaved?: string;
}
