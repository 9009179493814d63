import type { Integration, PrefixTrie } from '@user-llm/cross-attention';
import type { UserEncoder } from '@user-llm/user-encoder';
import type { Example } from '../examples.js';
import { Teacher } from '../teacher.js';
import type { AdaptationTask, AdaptedSystem } from './adaptation-task.js';
import { alignReader } from './align-reader.js';
import { fitFirst, type FirstFit } from './first-fit.js';
import { genreFit, genreSeconds } from './genre-fit.js';
import { loadEncoder } from './pretrain.js';

/** The encoder is pretrained: at the full rate its first steps would undo that. The rows of item tokens are fitted. */
const rates = { encoderRate: 0.1, itemRate: 0.1 };

/**
 * Trains a system that reads users, and the encoder with it, after what the encoder's head expects of each example; one that is to be aligned
 * is aligned first, and trains in the time that is left. Rows of item tokens are fitted to the head twice: at the start, so that there is
 * something to learn from at once, and at the end, where the fitted ones stay if they rank the validation items better than the trained
 * ones. Then those of genres are fitted.
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
    const read = { integration, seed, ...(spec.blindPrefix && { blindPrefix: spec.blindPrefix }) };
    let adaptable = model.withUserEmbeddings({ encoder: encoder.trainable(corpus.known), ...read });
    const aligned = spec.aligned && (await alignReader(task, adaptable));
    if (aligned) adaptable = aligned.model.withUserEmbeddings({ encoder: aligned.encoder.trainable(corpus.known), ...read });
    const alignSeconds = aligned?.record.seconds ?? 0;
    const { seconds } = task.options;
    let first: FirstFit = { seconds: 0, batches: 0 };
    if (naming === 'item-tokens') ({ adaptable, first } = await fitFirst(task, adaptable, (most) => teacher.scored(batch, most)));
    const forGenres = genreSeconds(task, seconds ?? Infinity);
    const left = seconds === undefined ? {} : { seconds: Math.max(1, seconds - alignSeconds - 2 * first.seconds - forGenres) };
    const training = adaptable.adapt(async (step) => teacher.teach(batch(step), step), { ...task.options, ...rates, ...left });
    await watch(training, seconds === undefined ? 0 : first.seconds + forGenres);
    const { record, ...trained } = await training.result;
    const trainedEncoder = trained.encoder as UserEncoder;
    const done = { encoder: trainedEncoder, record, ...(aligned && { alignment: aligned.record }) };
    if (naming === 'title') return { ...done, model: trained.model, otherSeconds: alignSeconds };
    const finished = performance.now();
    say('fitting item tokens to what the encoder expects, once more');
    const items = await trained.model
      .withUserEmbeddings({ encoder: trainedEncoder.trainable(corpus.known), ...read })
      .fitItemTokens(teacher.scored(batch, first.batches), {
        ...runtime,
        signal,
        validation: task.options.validation.examples,
      });
    const genres = genreFit(task, { reach, seconds: forGenres });
    const named = genres && (await items.adaptable.fitLabelTokens(genres.batches, genres.options));
    return {
      ...done,
      model: (named ?? items).adaptable.model,
      otherSeconds: alignSeconds + first.seconds + (performance.now() - finished) / 1000,
      ...(items.ndcg && { itemRows: items.ndcg }),
      ...(named?.ndcg && { genreRows: named.ndcg }),
    };
  } finally {
    await encoder.dispose();
  }
}
