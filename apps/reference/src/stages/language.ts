import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { LanguageModel, trainByteLevelBpe, type TrainingRecord } from '@user-llm/cross-attention';
import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from '../corpus.js';
import { genreQuestion, nextQuestions, Prompts } from '../prompts.js';
import { counted } from '../run/console-output.js';
import { identityOf, type StageRecord } from '../run/run-manifest.js';
import { watchTraining } from '../run/training-progress.js';
import type { Workspace } from '../workspace.js';

/** A decoder of one to two million parameters. */
const shape = { width: 128, layers: 4, heads: 4, keyValueHeads: 2, intermediate: 384, context: 4096 };
const vocabulary = { small: 2048, large: 4096, largeFrom: 3000 };
const popularSentences = 30_000;
const baseFolder = 'language';

type BaseRecord = { base: 'pretrained' | 'scratch'; training?: TrainingRecord; trainingSeconds: number };

export const baseKind = (workspace: Workspace): 'scratch' | 'pretrained' =>
  workspace.run.settings.llm === null ? 'scratch' : 'pretrained';

/** Makes the language model that all systems start from: one on the domain's own text, or the one that was named. */
export async function prepareLanguageModel(workspace: Workspace): Promise<StageRecord> {
  const { run, budget, seed, signal } = workspace;
  const corpus = await workspace.corpus();
  const { llm } = run.settings;
  const key = { tokenizer: corpus.tokenizer.hash, llm, seed, seconds: budget.language, shape };
  const file = run.path('checkpoints', 'language.safetensors');
  const work = async (): Promise<BaseRecord> => {
    const progress = workspace.output.progress(
      'language',
      llm === null ? 'language model on the titles' : 'loading the language model',
    );
    await mkdir(run.path('checkpoints'), { recursive: true });
    if (llm !== null) {
      const model = await LanguageModel.load(llm, {
        signal,
        onProgress: ({ file, allReceivedBytes, allTotalBytes }) =>
          progress.update({ fraction: allReceivedBytes / allTotalBytes, detail: file }),
      });
      await model.save(run.path(baseFolder));
      progress.done(`${model.config.layers} layers, context ${model.config.contextLength}`);
      return { base: 'pretrained', trainingSeconds: 0 };
    }
    const texts = domainTexts(corpus);
    const tokenizer = trainByteLevelBpe([...texts, ...asked(texts.length)], {
      vocabularySize: corpus.titles.length >= vocabulary.largeFrom ? vocabulary.large : vocabulary.small,
      maximumLength: shape.context,
    });
    const fresh = LanguageModel.create(shape, tokenizer, seed);
    const training = fresh.pretrain(domainSequences(corpus, fresh, seed), {
      seconds: budget.language,
      seed,
      learningRate: 6e-3,
      batchSize: 16,
      sequenceLength: 128,
      ...workspace.runtime,
      checkpoint: { file },
      signal,
    });
    await watchTraining(training, progress, { seconds: budget.language });
    const { model, record } = await training.result;
    await model.save(run.path(baseFolder));
    progress.done(`${counted(record.steps, 'step')}, loss ${record.curve.at(-1)?.loss.toFixed(3) ?? '-'}`);
    return { base: 'scratch', training: record, trainingSeconds: record.seconds };
  };
  return run.stage('language', key, work, { leaves: [baseFolder], after: () => removeCheckpoint(file) });
}

/** What the base is, for the keys of what is made from it: one that was trained anew here is another, one that was given is the same. */
export function baseIdentity(workspace: Workspace): string {
  const record = workspace.run.need('language', 'adapt');
  return baseKind(workspace) === 'scratch' ? identityOf(record) : record.key;
}

/** The language model that all systems start from. */
export const loadBase = ({ run }: Workspace): Promise<LanguageModel> =>
  // By its whole path: a relative one that is not there could be the name of a model on a hub.
  run.read(baseFolder, 'adapt', () => LanguageModel.load(path.resolve(run.path(baseFolder))));

/** What the domain has in words: titles and what kind they are. */
function domainTexts({ titles, categories }: Corpus): string[] {
  return titles.map((title, i) => (categories[i].length > 0 ? `${title}: ${categories[i].join(', ')}` : title));
}

/** The questions, often enough that their words are tokens: every request reads one. */
function asked(texts: number): string[] {
  const questions = [...nextQuestions, genreQuestion];
  return Array.from({ length: Math.max(questions.length, texts) }, (_, i) => questions[i % questions.length]);
}

/** Titles with their genres, and the question with what people chose, as often as they chose it. */
function domainSequences(corpus: Corpus, model: LanguageModel, seed: number): number[][] {
  const prompts = new Prompts(model.tokenizer, corpus.titles);
  const random = Random.of(seed, 'language');
  const sequences = domainTexts(corpus).map((text) => prompts.answer(text));
  const { train, log } = corpus;
  for (let i = 0; i < popularSentences; i++) {
    const user = random.integer(log.users.length);
    const length = train.offsets[user + 1] - train.offsets[user];
    const item = length > 0 ? log.items[log.offsets[user] + random.integer(length)] : -1;
    if (item >= 0)
      sequences.push([
        ...prompts.question(nextQuestions[random.integer(nextQuestions.length)]),
        ...prompts.answer(corpus.titles[item]),
      ]);
  }
  return random.shuffle(sequences);
}

/** Where it is kept, beside a training's checkpoint, what was fitted before that training began. */
export const firstFitFile = (checkpoint: string): string => `${checkpoint}.fit`;

/** A finished stage's checkpoint and the files beside it. */
export async function removeCheckpoint(file: string): Promise<void> {
  for (const name of [file, `${file}.log`, `${file}.best`, firstFitFile(file)]) await rm(name, { force: true });
}
