export { type EmbeddingWithState } from './embedding-with-state.js';
export { UserEncoder, type EncodeOptions, type RuntimeOptions } from './user-encoder.js';
export type { Attribution, AttributionOptions } from './attribution.js';
export type { Band, EncoderConfig, EncoderOptions } from './config.js';
export { LiveUser } from './live-user.js';
export type { StateDtype } from './user-state.js';
export type { InputField } from './input-fields.js';
export type { InferenceOutput } from './inference.js';
export type { UserScores } from './item-scorer.js';
export { combine } from './objectives/combine.js';
export { contrastive, type ContrastiveOptions } from './objectives/contrastive.js';
export { dualEncoder, type DualEncoderOptions } from './objectives/dual-encoder.js';
export {
  fullSoftmax,
  gbce,
  sampledSoftmax,
  type CalibratedBinary,
  type FullSoftmax,
  type ItemLoss,
  type SampledSoftmax,
} from './objectives/item-loss.js';
export { maskedEvents, type MaskedEventsOptions } from './objectives/masked-events.js';
export { nextEvent, type NextEventOptions } from './objectives/next-event.js';
export type { ItemVectors } from './item-vectors.js';
export type { Repeats } from './objectives/taken-items.js';
export type {
  BoundObjective,
  ItemHead,
  ItemTable,
  Objective,
  ObjectiveRun,
  PretrainingGraph,
  TrainingBatch,
} from './objectives/objective.js';
export type { LabelTower } from './label-tower.js';
export type { FieldWeights } from './objectives/predicted-fields.js';
export { part as sequencePart, type Augmentation, type Sequence } from './sequences.js';
export type { CosineSchedule, LearningRateSchedule } from './learning-rate.js';
export type { PretrainOptions } from './pretrain-options.js';
export type { PretrainEnd, PretrainProgress, PretrainRun, PretrainStep, PretrainValidation } from './pretrain-run.js';
export type { StopReason, TrainingRecord, ValidationPoint } from './training-record.js';
export type { ValidationResult } from './validation.js';
export type { FeedSizes, History, TrainableEncoder } from './trainable.js';
export { ExportedEncoder } from './exported-encoder.js';
export type { ExportedEncoderOptions, OnnxRuntime, OnnxSession } from './exported-encoder.js';
export type { FileReader } from './file-reader.js';
export type { EmbeddingOptions, UserEmbedding } from './user-embedding.js';
export {
  EncoderDisposedError,
  EncoderFormatError,
  EncoderHashError,
  EncoderOptionError,
  EventOrderError,
  NoItemScoresError,
  NoLabelTowerError,
  PretrainCheckpointError,
  StateFormatError,
  StateMismatchError,
  TrainingDataError,
  UserEncoderError,
} from './errors.js';
