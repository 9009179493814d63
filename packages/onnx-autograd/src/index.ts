export { type Bindings, type Dim } from './dim.js';
export * from './errors.js';
export * from './host-tensor.js';
export * from './safetensors.js';
export { syncFolder, writeFileAtomically } from './atomic-file.js';
export { checkpointClock, type CheckpointTimes } from './checkpoint-clock.js';
export { hashTensors } from './checkpoint.js';
export { Random } from './random.js';
export {
  constant,
  initialWeights,
  normal,
  ones,
  uniform,
  values,
  xavierUniform,
  zeros,
  type Initializer,
  type Weights,
} from './initializers.js';
export {
  float,
  GraphBuilder,
  type Attributes,
  type AttributeValue,
  type Gradient,
  type GradientRule,
  type InputInfo,
  type Node,
  type OutputSpec,
  type ParameterInfo,
} from './graph-builder.js';
export { Tensor } from './tensor.js';
export { Table, type TableInfo } from './table.js';
export { concat } from './ops/shaping.js';
export { where } from './ops/elementwise.js';
export { recompute } from './ops/recompute.js';
export { scatterAddRows } from './ops/indexing.js';
export { type MatmulOptions } from './ops/matmul.js';
export {
  attention,
  causalBias,
  maskBias,
  mergeHeads,
  multiHeadAttention,
  rotary,
  rotaryTables,
  splitHeads,
  type AttentionOptions,
} from './ops/attention.js';
export { crossEntropy, linearCrossEntropy, weightedMean } from './ops/cross-entropy.js';
export { differentiableOperations, gradients } from './gradients.js';
export { graph, GraphDefinition, type BuiltGraph, type ModelScope, type Outputs } from './definition.js';
export { matrixFlops } from './matrix-flops.js';
export { toOnnx, type OnnxModel, type OnnxOptions } from './onnx-model.js';
export { type ExternalValue } from './onnx-parts.js';
export { onnxValues, onnxWeights, tensorOfValue, type OnnxValue } from './onnx-weights.js';
export { adam, adamW, averaged, averageSlot, sgd, type AdamWOptions, type Optimizer, type UpdateContext } from './optimizers.js';
export { constantRate, warmupConstant, warmupCosine, type Schedule } from './schedules.js';
export { Program, type ProgramOptions } from './program.js';
export { openSession, type Feeds, type SessionOptions } from './session.js';
export { type BatchSource, type StepFeeds } from './batch-source.js';
export { Trainer, type StepResult, type TrainerOptions } from './trainer.js';
