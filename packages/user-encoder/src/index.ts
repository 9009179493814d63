export { UserEncoder, type EncodeOptions, type RuntimeOptions, type UserScores } from './user-encoder.js';
export type { AttentionOptions, Band, EncoderConfig, EncoderOptions } from './config.js';
export { LiveUser } from './live-user.js';
export type { StateDtype } from './user-state.js';
export type { InputField } from './input-fields.js';
export type { InferenceOutput } from './inference.js';
export { nextEvent, type NextEventObjective, type NextEventOptions, type Objective } from './objective.js';
export type { PretrainOptions } from './pretrain.js';
export type { PretrainEnd, PretrainProgress, PretrainRun, PretrainStep, PretrainValidation } from './pretrain-run.js';
export type { StopReason, TrainingRecord, ValidationPoint } from './training-record.js';
export type { ValidationResult } from './validation.js';
export type { FeedSizes, History, TrainableEncoder } from './trainable.js';
export type { UserEmbedding } from './user-embedding.js';
export {
  EncoderFormatError,
  EncoderHashError,
  EncoderOptionError,
  EventOrderError,
  PretrainCheckpointError,
  StateFormatError,
  StateMismatchError,
  TrainingDataError,
  UserEncoderError,
} from './errors.js';
