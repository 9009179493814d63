import { mkdir } from 'node:fs/promises';
import { DoesNotFitError, type LanguageModel, type Run, type TrainingProgress } from '@user-llm/cross-attention';
import type { DoesNotFit } from '@user-llm/evaluation';
import type { TrainingRecord } from '@user-llm/user-encoder';
import { candidatesOf, type Corpus } from '../corpus.js';
import { ExampleSource, validatedUsers, type Naming } from '../examples.js';
import { FavouriteGenres } from '../favourite-genres.js';
import { Prompts } from '../prompts.js';
import { counted } from '../run/console-output.js';
import type { StageRecord } from '../run/run-manifest.js';
import { watchTraining } from '../run/training-progress.js';
import { batchOf, folderName, mainSystem, strategyOf, type Batch, type SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { adaptReader } from './adapt-reader.js';
import { adaptText } from './adapt-text.js';
import { alignment, alignmentCheckpoint } from './align-reader.js';
import { encoderPart, stageOf, systemPart } from './adapted.js';
import { packsFrozenWeights } from './frozen-weights.js';
import { baseIdentity, baseKind, loadBase, prepareLanguageModel, removeCheckpoint } from './language.js';
import { pretrained } from './pretrain.js';
import { summariesOf, writeSummaries, writtenFor } from './summarise.js';

/** Of prompts of validation items: a validation takes no more than so much time, for a small model. */
const validationTokens = 20_000;
const mostValidated = 300;
const learningRate = { scratch: 5e-3, pretrained: 5e-4 };
/** How often a given model is held against the validation items in a run by examples. */
const validations = 4;

/** Trains every language-model system from the same base, in their order; see `prepareSystem`. */
export async function adaptAll(workspace: Workspace): Promise<void> {
  await prepareLanguageModel(workspace);
  for (const spec of workspace.systems) await prepareSystem(workspace, spec);
}

/** Trains a system for as long as its kind may, once what it reads is there. */
export async function prepareSystem(workspace: Workspace, spec: SystemSpec): Promise<StageRecord> {
  if (spec.reading.summary === 'written') await writeSummaries(workspace);
  return adaptSystem(workspace, spec, spec.reading.embedding ? workspace.budget.adapt : textSeconds(workspace));
}

/**
 * A text prompt may train as long as the encoder's pretraining and the main system's adaptation took together, or were to take where
 * they are not of this run.
 */
function textSeconds({ run, budget }: Workspace): number {
  const spent = (stage: string, planned: number): number => Number(run.finished(stage)?.result.trainingSeconds ?? planned);
  return spent('pretrain', budget.pretrain) + spent(stageOf(mainSystem), budget.adapt);
}

const plannedSeconds = ({ budget }: Workspace, { reading }: SystemSpec): number =>
  reading.embedding ? budget.adapt : budget.pretrain + budget.adapt;

/** Every way to rank but that by titles needs item tokens. */
const namingOf = ({ run }: Workspace): Naming => (run.settings.ranking === 'title' ? 'title' : 'item-tokens');

/** A model with tokens for what it is asked to name: items, and the genres that they have. */
function withAnswers(base: LanguageModel, corpus: Corpus): LanguageModel {
  const model = base.withItemTokens(candidatesOf(corpus));
  const { labels } = new FavouriteGenres(corpus);
  return labels.length === 0 ? model : model.withLabelTokens(labels);
}

/** The steps of a run that is measured in examples, those of an alignment taken off. */
const stepsOf = ({ run: { settings } }: Workspace, { users, moments }: Batch, { aligned }: SystemSpec): number | undefined =>
  settings.examples && Math.ceil(((1 - (aligned ? alignment.share : 0)) * settings.examples) / (users * moments));

/** Trains one system from the base that all start from. */
export async function adaptSystem(workspace: Workspace, spec: SystemSpec, seconds: number): Promise<StageRecord> {
  const { run, seed, signal } = workspace;
  const corpus = await workspace.corpus();
  const kind = baseKind(workspace);
  const { hash, training } = pretrained(workspace, spec.encoder).result as { hash: string; training: TrainingRecord };
  const { repeats = 'allowed' } = training;
  const naming = namingOf(workspace);
  const batch = batchOf(kind, spec);
  const key = {
    language: baseIdentity(workspace),
    encoder: spec.reading.embedding ? hash : null,
    ...(spec.encoder && { userTokens: spec.encoder.userTokens }),
    ...(spec.strategy && { strategy: spec.strategy }),
    ...(spec.aligned && { alignment }),
    ...(spec.blindPrefix && { blindPrefix: spec.blindPrefix }),
    ...(spec.reading.summary === 'written' && { summaries: writtenFor }),
    seed,
    // As planned: what others spent in the end, which a text prompt gets, may become known after it was trained.
    seconds: run.settings.examples ? null : Math.round(plannedSeconds(workspace, spec)),
    batch,
    naming,
    ...(naming === 'title' ? {} : { genres: 'tokens, of every user' }),
    ...(repeats === 'never' && { answers: 'not taken' }),
    examples: run.settings.examples,
    rate: learningRate[kind],
  };
  const file = run.path('checkpoints', `${folderName(spec.name)}.safetensors`);
  const after = async (): Promise<void> => {
    for (const written of [file, alignmentCheckpoint(file)]) await removeCheckpoint(written);
  };
  const leaves: string[] = [];
  const work = async () => {
    const progress = workspace.output.progress(stageOf(spec), `training ${spec.title}`);
    for (const folder of ['systems', 'checkpoints']) await mkdir(run.path(folder), { recursive: true });
    const base = await loadBase(workspace);
    const model = naming === 'title' ? base : withAnswers(base, corpus);
    const prompts = new Prompts(model.tokenizer, corpus.titles);
    const trie = model.trie(corpus.titles);
    const summaries = await summariesOf(workspace, spec);
    const source = new ExampleSource(corpus, prompts, spec.reading, seed, trie, naming, summaries, repeats);
    const steps = stepsOf(workspace, batch, spec);
    const validated = kind === 'pretrained' || spec.reading.summary === 'written' ? validatedUsers : mostValidated;
    const validationLimits = { most: validated, tokens: validationTokens };
    const options = {
      strategy: strategyOf(kind, spec),
      ...(steps === undefined ? { seconds } : { steps }),
      seed,
      learningRate: learningRate[kind],
      ...workspace.runtime,
      ...(packsFrozenWeights(model, { steps, seconds }) && { frozenWeights: 'packed' as const }),
      checkpoint: { file },
      validation: {
        examples: source.validation(validationLimits),
        by: naming === 'title' ? ('loss' as const) : ('ranking' as const),
        keepFrom: 0.75,
        // A few of a large model's validations take as long as all of its training would.
        ...(kind === 'pretrained' && steps !== undefined ? { everySteps: Math.ceil(steps / validations) } : {}),
      },
      signal,
    };
    let shown = 0;
    const task = {
      ...{ workspace, spec, batch, model, prompts, naming, source, options, validationLimits },
      say: (detail: string) => progress.update({ fraction: shown, detail }),
      watch: async (training: Run<TrainingProgress, unknown>, after = 0) => {
        await watchTraining(training, progress, { seconds, after, steps });
        shown = steps === undefined ? 1 - after / seconds : 1;
      },
    };
    const trained = await (spec.integration
      ? adaptReader(task, spec.integration(kind, model.config.layers), trie)
      : orDoesNotFit(adaptText(task)));
    if ('doesNotFit' in trained) {
      progress.done(trained.doesNotFit);
      return { doesNotFit: trained.doesNotFit };
    }
    const { model: adapted, encoder, record, otherSeconds, itemRows, alignment: aligned, genreRows } = trained;
    // All systems answer in float32, as they were trained: blocks would be left to those whose decoder stayed as it was.
    await adapted.save(run.path(systemPart(spec.name)), { trainable: false, quantize: false });
    await encoder?.save(run.path(encoderPart(spec.name)));
    leaves.push(systemPart(spec.name), ...(encoder ? [encoderPart(spec.name)] : []));
    const reached = record.validation.at(-1)?.loss;
    progress.done(
      `${counted(record.steps, 'step')}, ${record.examplesSeen} examples, validation loss ${reached?.toFixed(3) ?? '-'}${record.stillFalling ? ' (still falling)' : ''}`,
    );
    return {
      training: record,
      repeats,
      trainingSeconds: record.seconds + otherSeconds,
      ...(encoder && { encoder: encoder.hash }),
      ...(itemRows && { itemRows }),
      ...(aligned && { alignment: aligned }),
      ...(genreRows && { genreRows }),
    };
  };
  return run.stage(stageOf(spec), key, work, { leaves, after });
}

/** Text prompts longer than the model's context are no failure of the run: the report says so in place of figures. */
async function orDoesNotFit<T>(training: Promise<T>): Promise<T | DoesNotFit> {
  try {
    return await training;
  } catch (error) {
    if (!DoesNotFitError.isInstance(error)) throw error;
    return { doesNotFit: `an example of ${error.tokens} tokens does not fit into the model's context of ${error.context}` };
  }
}
