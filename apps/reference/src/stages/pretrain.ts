import { mkdir, rm } from 'node:fs/promises';
import type { EventTokenizer } from '@user-llm/event-tokenizer';
import { nextEvent, UserEncoder, type EncoderOptions, type RuntimeOptions } from '@user-llm/user-encoder';
import type { StageRecord } from '../run/run-folder.js';
import type { Workspace } from '../workspace.js';

/** Shape of the encoder of a log; it reads the times between events where there are times, and not only an order. */
export const encoderShape = (tokenizer: EventTokenizer): EncoderOptions => ({
  width: 64,
  layers: 2,
  heads: 2,
  context: 200,
  userTokens: 16,
  dropout: 0.2,
  attention: { position: hasTimes(tokenizer) ? 'rotary-time' : 'rotary', window: 200 },
});

const hasTimes = ({ fields: { time } }: EventTokenizer): boolean => time?.kind === 'time' && time.unit !== 'order';

/** Time is short: the rate stays high for half of it. */
const schedule = { warmup: 0.1, hold: 0.5 } as const;

/** Pretrains the user encoder on everything but the test items, watching the validation items. */
export async function pretrain(workspace: Workspace): Promise<StageRecord> {
  const { run, budget, seed, signal } = workspace;
  const { tokenizer, known } = await workspace.corpus();
  const done = run.finished('pretrain');
  const seconds = budget.pretrain;
  const shape = encoderShape(tokenizer);
  return run.stage('pretrain', { tokenizer: tokenizer.hash, seed, seconds, shape, schedule }, async () => {
    const progress = workspace.output.progress('pretrain', 'pretraining the user encoder');
    if (done) workspace.output.note('settings changed: the encoder is pretrained again');
    await mkdir(run.path('checkpoints'), { recursive: true });
    const file = run.path('checkpoints', 'pretrain.safetensors');
    const training = UserEncoder.create(tokenizer, { ...shape, seed }).pretrain(known, {
      objective: nextEvent(),
      seconds,
      learningRate: 4e-3,
      schedule,
      validation: 'last',
      checkpoint: { file },
      signal,
    });
    let validation = '';
    for await (const news of training) {
      if (news.kind === 'validation') validation = `, validation hit@10 ${news.hitAt10.toFixed(3)}`;
      if (news.kind === 'step')
        progress.update({
          fraction: 1 - (news.secondsLeft ?? 0) / seconds,
          secondsLeft: news.secondsLeft ?? undefined,
          detail: `loss ${news.loss.toFixed(3)}${validation}, ${Math.round(news.eventsPerSecond)} events/s`,
        });
    }
    const encoder = await training.result;
    await encoder.save(run.path('encoder'));
    const record = encoder.training!;
    await encoder.dispose();
    await rm(file, { force: true });
    await rm(`${file}.run`, { force: true });
    progress.done(`${record.steps} steps${validation}`);
    return { hash: encoder.hash, training: record, trainingSeconds: record.seconds };
  });
}

/** The pretrained encoder. */
export async function loadEncoder(workspace: Workspace, runtime: RuntimeOptions = {}): Promise<UserEncoder> {
  workspace.run.need('pretrain', 'pretrain');
  const { tokenizer } = await workspace.corpus();
  return UserEncoder.load(workspace.run.path('encoder'), { tokenizer, ...runtime });
}
