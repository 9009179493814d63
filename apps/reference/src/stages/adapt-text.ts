import type { ScoredExample } from '@user-llm/cross-attention';
import type { Example, HistoryReference } from '../examples.js';
import type { AdaptationTask, AdaptedSystem } from './adaptation-task.js';
import { genreFit, genreSeconds } from './genre-fit.js';

/** Trains a system that reads its prompt alone, then fits its genres' tokens as those of systems that read users are. */
export async function adaptText(task: AdaptationTask): Promise<AdaptedSystem> {
  const { batch, model, source, options, watch } = task;
  const { validation, seconds, ...rest } = options;
  const forGenres = genreSeconds(task, seconds ?? Infinity);
  const training = model.adapt((step) => source.batch(step, { ...batch, reach: Infinity }).map(textOnly), {
    ...rest,
    ...(seconds === undefined ? {} : { seconds: seconds - forGenres }),
    validation: { ...validation, examples: validation.examples.map(textOnly) },
  });
  await watch(training, seconds === undefined ? 0 : forGenres);
  const trained = await training.result;
  const began = performance.now();
  const genres = genreFit(task, { reach: Infinity, seconds: forGenres });
  if (genres === undefined) return { ...trained, otherSeconds: 0 };
  const { model: fitted, ndcg } = await trained.model.fitLabelTokens(allTextOnly(genres.batches), {
    ...genres.options,
    validation: genres.options.validation.map(textOnly),
  });
  return { ...trained, model: fitted, otherSeconds: (performance.now() - began) / 1000, ...(ndcg && { genreRows: ndcg }) };
}

/** Examples of a text prompt have no embedding to read. */
const textOnly = <T extends Pick<Example, 'history'>>({ history: _, ...example }: T): Omit<T, 'history'> => example;

async function* allTextOnly(
  batches: AsyncIterable<readonly ScoredExample<HistoryReference>[]>,
): AsyncGenerator<ScoredExample<never>[]> {
  for await (const batch of batches) yield batch.map(textOnly);
}
