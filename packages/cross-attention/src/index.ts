export { trainByteLevelBpe, specialTokens, type ByteLevelBpeOptions, type TokenizerFiles } from './text/byte-level-bpe.js';
export { TextTokenizer, TokenizerError, type ChatMessage, type ChatOptions, type EncodeOptions } from './text/text-tokenizer.js';
export { decoderFamilies, type DecoderFamily } from './families/families.js';
export type { DecoderConfig, RotaryScaling } from './folder/decoder-config.js';
export {
  readDecoderConfig,
  readDecoderWeights,
  readHuggingFaceFolder,
  type DecoderWeights,
  type HuggingFaceModel,
} from './folder/hugging-face.js';
export { checkModel, type CheckedModel } from './check-model.js';
export { ModelFolderError, type ModelFolderProblem } from './folder/model-folder-error.js';
export { readGguf, type GgufModel } from './gguf/gguf-model.js';
export {
  readGgufHeader,
  type GgufHeader,
  type GgufHeaderOptions,
  type GgufTensorInfo,
  type GgufValue,
} from './gguf/gguf-header.js';
export { GgufError, type GgufProblem } from './gguf/gguf-error.js';
export { blockFormatNames, type BlockFormat, type BlockFormatName } from './gguf/block-formats.js';
export { GgufTensor, type Blocks } from './gguf/gguf-tensors.js';
export { fetchModel, type FetchedModel } from './hub/hub-model.js';
export { hubNameOf, type HubName } from './hub/hub-name.js';
export { type HubOptions, type HubProgress } from './hub/hub-options.js';
export { HubError, type HubProblem } from './hub/hub-error.js';
export { type LoadOptions } from './hub/local-place.js';
export { createDecoder, decoderConfig, decoderParameterCount, type Decoder, type DecoderSizes } from './decoder/decoder.js';
export { decoderFlops, type DecoderWork } from './decoder/flops.js';
export { inferenceModel, type Computation } from './decoder/inference-graph.js';
export { type AccuracyLevel, type Precision } from './decoder/packable-matrix.js';
export { type Integration, type UserShape } from './integration/integration.js';
export { gatedCrossAttention, type GatedCrossAttentionOptions } from './integration/gated-cross-attention.js';
export { type BlindPrefix } from './integration/blind-prefix.js';
export { softPrompt } from './integration/soft-prompt.js';
export { mixTasks, type Task, type TaskMixture } from './adaptation/task-mixture.js';
export {
  type AdaptationExample,
  type ExampleBatches,
  type ExampleSource,
  type ItemAnswer,
  type LabelAnswer,
  type NamedAnswer,
} from './adaptation/examples.js';
export {
  fitItemRows,
  fitLabelRows,
  type FitRowsOptions,
  type FittedRows,
  type ScoredBatches,
  type ScoredExample,
} from './adaptation/fit-rows.js';
export { adaptJointModel, type AdaptedParts, type AdaptOptions } from './adaptation/adapt.js';
export { alignJointModel, type AlignedParts, type AlignmentSource, type AlignOptions } from './alignment/align.js';
export { type AlignmentExample } from './alignment/alignment-example.js';
export { type TextReading } from './alignment/alignment-graph.js';
export { pretrainDecoder, type PretrainOptions } from './adaptation/pretrain.js';
export { type Strategy, type JointModel } from './adaptation/joint-model.js';
export { type LoraOptions } from './adaptation/lora.js';
export { loadLoraAdapter, saveLoraAdapter, type LoraAdapter } from './adaptation/lora-adapter.js';
export { type TrainableEncoder, type Adapted } from './adaptation/trainable-encoder.js';
export {
  type TrainingBudget,
  type TrainingOptions,
  type TrainingProgress,
  type TrainingRecord,
  type ValidationOptions,
} from './adaptation/training-options.js';
export { Run } from './run.js';
export { AdaptationError, DoesNotFitError, EncoderMismatchError, ModelWorkerError, PrefixError } from './errors.js';
export { PrefixTrie } from './ranking/prefix-trie.js';
export {
  beamSearch,
  exactRanking,
  type BeamSearchOptions,
  type ExactRankingOptions,
  type RankedItems,
  type RankOptions,
} from './ranking/beam-search.js';
export { logNormalizer, type Logits, type TokenScorer } from './ranking/token-scorer.js';
export { type Candidate, type ItemTokens, type NamedKind } from './items/item-tokens.js';
export { byTitle, type ByTitleOptions } from './ranking/by-title.js';
export { byItemTokens, byLabelTokens, logSoftmax } from './ranking/by-item-tokens.js';
export { byRetrieval, mixedScore, type ByRetrievalOptions, type Retrieval } from './ranking/by-retrieval.js';
export {
  type AskedModel,
  type CatalogueRanker,
  type CatalogueWay,
  type ItemScores,
  type RankingWay,
} from './ranking/catalogue-ranker.js';
export { type CandidateRanking } from './ranking/rank-candidates.js';
export { AdaptableModel, type FittedModel, type HistoryOf } from './adaptable-model.js';
export { LanguageModel, type RankCandidatesRequest, type RankedCandidates, type WordedExample } from './language-model.js';
export { type UserReading } from './model-contents.js';
export { ServedModel } from './serving/served-model.js';
export { integerComputation } from './serve-model.js';
export { type InIntegers, type IntegerOption, type ServeModelOptions, type ServeOptions } from './serving/engine.js';
export {
  type GenerateRequest,
  type PrefixRequest,
  type Prompt,
  type Ranking,
  type RankRequest,
  type ScheduledRequest,
} from './serving/request.js';
export { RequestScheduler, type SchedulerOptions } from './serving/scheduler.js';
export { WorkerModel, type WorkerGenerateRequest, type WorkerOptions } from './worker/worker-model.js';
export { type SamplingSettings } from './serving/sampling.js';
export { type Prefix } from './serving/prefix.js';
export { type ReadableEmbedding, type StoredUserState, type UserState } from './serving/user-state.js';
export { type Generation, type Timings, type Usage } from './serving/generation.js';
export { choiceWeights } from './ranking/choice-weights.js';
export { titleDistributions } from './ranking/title-distributions.js';
export type { TokenDistribution } from './ranking/title-distributions.js';
