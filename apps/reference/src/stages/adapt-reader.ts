import type { Integration, PrefixTrie } from '@user-llm/cross-attention';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Example } from '../examples.js';
import { Teacher } from '../teacher.js';
import type { AdaptationTask, AdaptedSystem } from './adaptation-task.js';
import { alignReader } from './align-reader.js';
import { baseKind } from './language.js';
import { loadEncoder } from './pretrain.js';

/** The encoder is pretrained: at the full rate its first steps would undo that. The rows of item tokens are fitted. */
const rates = { encoderRate: 0.1, itemRate: 0.1 };

/** Examples that rows of item tokens are fitted to: several for each number of a small model's state, fewer where they take long. */
const fittedExamples = { scratch: 1280, pretrained: 640 };
const leastFittedExamples = 256;
/** Of the time that the system has, for each of the two fits; the rest is for training. */
const fittedShare = 0.12;

const secondsSince = (began: number): number => (performance.now() - began) / 1000;

/**
 * Trains a system that reads users, and the encoder with it, after what the encoder's head expects of each example; one that is to be aligned
 * first, in what time that leaves. Rows of item tokens
 * are fitted to the head twice: at the start, so that there is something to learn from at once, and at the end, where the fitted ones
 * stay if they rank the validation items better than the trained ones.
 */
export async function adaptReader(task: AdaptationTask, integration: Integration, titles: PrefixTrie): Promise<AdaptedSystem> {
  const { workspace, spec, batch: sizes, model, prompts, source, naming, watch, say } = task;
  const { signal, runtime, seed } = workspace;
  const corpus = await workspace.corpus();
  // It teaches between the steps: more threads would keep busy the cores that the steps need.
  const encoder = await loadEncoder(workspace, { threads: 1 }, spec.encoder);
  try {
    const reach = Math.floor(encoder.config.context / 2);
    const teacher = new Teacher(encoder, corpus.known, prompts, corpus.titles, titles, seed);
    const batch = (step: number): Example[] => source.batch(step, { ...sizes, reach });
    const size = sizes.users * sizes.moments;
    const mostBatches = Math.ceil(fittedExamples[baseKind(workspace)] / size);
    const leastBatches = Math.ceil(leastFittedExamples / size);
    const read = { integration, seed };
    let adaptable = model.withUserEmbeddings({ encoder: encoder.trainable(corpus.known), ...read });
    const aligned = spec.aligned && (await alignReader(task, adaptable));
    if (aligned) adaptable = aligned.model.withUserEmbeddings({ encoder: aligned.encoder.trainable(corpus.known), ...read });
    const alignSeconds = aligned?.record.seconds ?? 0;
    const alignment = aligned && { alignment: aligned.record };
    const began = performance.now();
    const { seconds } = task.options;
    let batches = 0;
    const enough = (): boolean => batches >= leastBatches && secondsSince(began) > fittedShare * (seconds ?? Infinity);
    async function* asLongAsThereIsTime() {
      say('fitting item tokens to what the encoder expects');
      for await (const scored of teacher.scored(batch, mostBatches)) {
        yield scored;
        batches++;
        if (enough()) return;
      }
    }
    if (naming === 'item-tokens') ({ adaptable } = await adaptable.fitItemTokens(asLongAsThereIsTime(), { ...runtime, signal }));
    const fitSeconds = secondsSince(began);
    // The second fit takes about as long as the first.
    const left = seconds === undefined ? {} : { seconds: Math.max(1, seconds - alignSeconds - 2 * fitSeconds) };
    const training = adaptable.adapt(async (step) => teacher.teach(batch(step), step), { ...task.options, ...rates, ...left });
    await watch(training);
    const { record, ...trained } = await training.result;
    const trainedEncoder = trained.encoder as UserEncoder;
    if (naming === 'title')
      return { model: trained.model, encoder: trainedEncoder, record, otherSeconds: alignSeconds + fitSeconds, ...alignment };
    const finished = performance.now();
    say('fitting item tokens to what the encoder expects, once more');
    const { ndcg, adaptable: fitted } = await trained.model
      .withUserEmbeddings({ encoder: trainedEncoder.trainable(corpus.known), ...read })
      .fitItemTokens(teacher.scored(batch, batches), { ...runtime, signal, validation: task.options.validation.examples });
    return {
      model: fitted.model,
      encoder: trainedEncoder,
      record,
      otherSeconds: alignSeconds + fitSeconds + secondsSince(finished),
      ...(ndcg && { itemRows: ndcg }),
      ...alignment,
    };
  } finally {
    await encoder.dispose();
  }
}
