import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { nextEvent, UserEncoder, type RuntimeOptions, type TrainingRecord } from '@user-llm/user-encoder';
import { encoderShape, pretrainingRate, type EncoderSize } from '../encoder-shape.js';
import { counted } from '../run/console-output.js';
import type { StageRecord } from '../run/run-manifest.js';
import { unsavedNote } from '../run/training-progress.js';
import type { Workspace } from '../workspace.js';

/** Pretraining leaves the resampler alone, so that encoders of one width share it. */
const stageOf = (size: EncoderSize | undefined): string => (size ? `pretrain width ${size.width}` : 'pretrain');
const folderOf = (size: EncoderSize | undefined): string => (size ? `encoders/width-${size.width}` : 'encoder');
const commandOf = (size: EncoderSize | undefined): string => (size ? 'sweep' : 'pretrain');

/** What pretraining an encoder left behind. */
export const pretrained = ({ run }: Workspace, size?: EncoderSize): StageRecord => run.need(stageOf(size), commandOf(size));

/** Pretrains the user encoder on everything but the test items, watching the validation items. */
export async function pretrain(workspace: Workspace, size?: EncoderSize): Promise<StageRecord> {
  const { run, budget, seed, signal } = workspace;
  const { tokenizer, known } = await workspace.corpus();
  const stage = stageOf(size);
  const shape = { ...encoderShape(tokenizer), ...(size && { width: size.width }) };
  const done = run.finished(stage);
  const { encoderSteps } = run.settings;
  const end = encoderSteps === undefined ? { seconds: budget.pretrain } : { steps: encoderSteps };
  const folder = folderOf(size);
  const file = run.path('checkpoints', `${stage.replaceAll(' ', '-')}.safetensors`);
  // Runs that earlier versions began are pretrained anew: theirs started at random.
  const key = { tokenizer: tokenizer.hash, seed, ...end, shape, rate: pretrainingRate, start: 'co-occurrence' };
  const work = async (): Promise<{ hash: string; training: TrainingRecord; trainingSeconds: number }> => {
    const progress = workspace.output.progress(
      stage,
      size ? `pretraining an encoder of width ${size.width}` : 'pretraining the user encoder',
    );
    if (done) workspace.output.note('settings changed: the encoder is pretrained again');
    await mkdir(run.path('checkpoints'), { recursive: true });
    const training = UserEncoder.create(tokenizer, { ...shape, seed }).pretrain(known, {
      objective: nextEvent(),
      ...end,
      ...pretrainingRate,
      validation: 'last',
      ...workspace.runtime,
      checkpoint: { file },
      signal,
    });
    let validation = '';
    for await (const news of training) {
      if (news.kind === 'validation') validation = `, validation hit@10 ${news.hitAt10.toFixed(3)}`;
      if (news.kind === 'step')
        progress.update({
          fraction: encoderSteps === undefined ? 1 - (news.secondsLeft ?? 0) / budget.pretrain : news.step / encoderSteps,
          secondsLeft: news.secondsLeft ?? undefined,
          detail: `loss ${news.loss.toFixed(3)}${validation}, ${Math.round(news.eventsPerSecond)} events/s${unsavedNote(news.unsaved)}`,
        });
    }
    const encoder = await training.result;
    await mkdir(path.dirname(run.path(folder)), { recursive: true });
    await encoder.save(run.path(folder));
    const record = encoder.training!;
    await encoder.dispose();
    progress.done(`${counted(record.steps, 'step')}${validation}`);
    return { hash: encoder.hash, training: record, trainingSeconds: record.seconds };
  };
  const after = async (): Promise<void> => {
    for (const name of [file, `${file}.run`]) await rm(name, { force: true });
  };
  return run.stage(stage, key, work, { leaves: [folder], after });
}

/** The pretrained encoder. */
export async function loadEncoder(
  workspace: Workspace,
  runtime: RuntimeOptions = workspace.runtime,
  size?: EncoderSize,
): Promise<UserEncoder> {
  pretrained(workspace, size);
  const { tokenizer } = await workspace.corpus();
  const found = await workspace.run.read(folderOf(size), commandOf(size), () =>
    UserEncoder.load(workspace.run.path(folderOf(size)), { tokenizer, ...runtime }),
  );
  if (!size || size.userTokens === found.config.userTokens) return found;
  // As many tokens as asked for, by a resampler that begins anew, behind the pretrained rest.
  const sized = UserEncoder.create(tokenizer, { ...encoderShape(tokenizer), ...size, seed: workspace.seed }, runtime);
  const weights = new Map([...found.weights].filter(([name]) => !name.startsWith('resampler.')));
  await found.dispose();
  return sized.withWeights(weights);
}
