export { popularity, markov, itemKnn, mix, mostFrequentGenre } from './baselines.js';
export type { MixOptions } from './baselines.js';
export { blend, rankTransform, zScores, logScores } from './blend.js';
export type { BlendOptions, ScoreTransform } from './blend.js';
export { corpusBleu } from './bleu.js';
export { bootstrap } from './bootstrap.js';
export type { BootstrapOptions, Interval } from './bootstrap.js';
export { chooseBlend, secondPartWeights } from './choose-blend.js';
export type { BlendChoice, ChooseBlendOptions } from './choose-blend.js';
export { chrf, corpusChrf } from './chrf.js';
export { accuracy, averagePrecision, confusion, logLoss, macroF1, rocAuc } from './classification-metrics.js';
export { count } from './counts.js';
export type { Counts, SparseRow } from './counts.js';
export { averageRanks, mean, percentile, spearman } from './descriptive.js';
export {
  EvaluationError,
  InvalidLogError,
  InvalidOptionError,
  InvalidResultError,
  ReportWriteError,
  SystemFailedError,
} from './errors.js';
export type { EvaluationErrorKind } from './errors.js';
export { evaluate, sampledCases } from './evaluate.js';
export type { EvaluateOptions, EvaluationProgress } from './evaluate.js';
export { addCosts, decoderFlops, matmulFlops } from './flops.js';
export type { DecoderSizes } from './flops.js';
export { measureHistoryLength } from './history-length.js';
export type { HistoryLengthFigures, HistoryLengthOptions, HistoryLengthRow, HistoryLengthSystem } from './history-length.js';
export { checkLog, interactions, interactionsFromRows, UNKNOWN_ITEM } from './interaction-log.js';
export type { CatalogueItem, EventColumnsLike, InteractionLog, InteractionRow, InteractionsOptions } from './interaction-log.js';
export { machineDescription, processorOf } from './machine.js';
export type { MachineDescription, VectorInstructions } from './machine.js';
export { normalCdf, normalQuantile } from './normal-distribution.js';
export { benjaminiHochberg, holm } from './multiple-testing.js';
export type { Outcome } from './outcome.js';
export { permutation, random } from './random.js';
export type { Random } from './random.js';
export { denseRanks, listRank, MISS } from './rank.js';
export type { Ranks } from './rank.js';
export { gainAt, hitAt, nextItemMetrics, rankingScores, reciprocalRank } from './ranking-metrics.js';
export type { NextItemMetrics, RankingScores } from './ranking-metrics.js';
export { Report } from './report.js';
export type {
  Curve,
  DatasetDescription,
  PromptCacheFigures,
  ReportData,
  ReportFields,
  SystemFigures,
  SystemRow,
  TrainingRecord,
  Versus,
} from './report-types.js';
export { rouge } from './rouge.js';
export type { Overlap, RougeScores } from './rouge.js';
export { measureScaling } from './scaling.js';
export type { ScalingFigures, ScalingOptions, ScalingRequest, ScalingRow, ScalingSample } from './scaling.js';
export { signFlipTest } from './sign-flip.js';
export type { SignFlipOptions, SignFlipResult } from './sign-flip.js';
export { leaveOneOut, timeSplit } from './split.js';
export type { Split, SplitCase, SplitDescription, TimeSplitOptions } from './split.js';
export type {
  Candidates,
  ClassifyRequest,
  ClassifyResult,
  Cost,
  DoesNotFit,
  History,
  RankRequest,
  RankResult,
  System,
  TrainingData,
} from './system.js';
export { favouriteGenre, nextItem } from './task.js';
export type { FavouriteGenreTask, NextItemTask, Task } from './task.js';
export { renderTradeOffs, writeTradeOffs } from './trade-off.js';
export type { TradeOffPage, TradeOffPoint, TradeOffSection } from './trade-off.js';
export { stillFalling } from './training-curve.js';
