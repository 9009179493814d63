import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Integration, PrefixTrie } from '@user-llm/cross-attention';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '@user-llm/user-encoder';
import { z } from 'zod';
import type { Example } from '../examples.js';
import { Teacher } from '../teacher.js';
import type { AdaptationTask, AdaptedSystem } from './adaptation-task.js';
import { alignReader } from './align-reader.js';
import { genreFit, genreSeconds } from './genre-fit.js';
import { baseKind, firstFitFile } from './language.js';
import { loadEncoder } from './pretrain.js';

/** The encoder is pretrained: at the full rate its first steps would undo that. The rows of item tokens are fitted. */
const rates = { encoderRate: 0.1, itemRate: 0.1 };

/** Examples that rows of item tokens are fitted to: several for each number of a small model's state, fewer where they take long. */
const fittedExamples = { scratch: 1280, pretrained: 640 };
const leastFittedExamples = 256;
/** Of the time that the system has, for each of the two fits; the rest is for training. */
const fittedShare = 0.12;

const secondsSince = (began: number): number => (performance.now() - began) / 1000;

/** What the fit before the training took: the one after it takes as much. */
const firstFitShape = z.object({ seconds: z.number(), batches: z.number() });
type FirstFit = z.infer<typeof firstFitShape>;

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
    const read = { integration, seed };
    let adaptable = model.withUserEmbeddings({ encoder: encoder.trainable(corpus.known), ...read });
    const aligned = spec.aligned && (await alignReader(task, adaptable));
    if (aligned) adaptable = aligned.model.withUserEmbeddings({ encoder: aligned.encoder.trainable(corpus.known), ...read });
    const alignSeconds = aligned?.record.seconds ?? 0;
    const { seconds, checkpoint } = task.options;
    let first: FirstFit = { seconds: 0, batches: 0 };
    if (naming === 'item-tokens') {
      // Where a training goes on, its checkpoint has the rows as they were.
      const known = await readFirstFit(checkpoint.file);
      if (known === undefined) {
        const began = performance.now();
        let batches = 0;
        say('fitting item tokens to what the encoder expects');
        const size = sizes.users * sizes.moments;
        const mostBatches = Math.ceil(fittedExamples[baseKind(workspace)] / size);
        const leastBatches = Math.ceil(leastFittedExamples / size);
        const enough = (): boolean => batches >= leastBatches && secondsSince(began) > fittedShare * (seconds ?? Infinity);
        const asLongAsThereIsTime = async function* () {
          for await (const scored of teacher.scored(batch, mostBatches)) {
            yield scored;
            batches++;
            if (enough()) return;
          }
        };
        ({ adaptable } = await adaptable.fitItemTokens(asLongAsThereIsTime(), { ...runtime, signal }));
        first = { seconds: secondsSince(began), batches };
        await writeFileAtomically(firstFitFile(checkpoint.file), [Buffer.from(JSON.stringify(first))]);
      } else first = known;
    }
    const forGenres = genreSeconds(task, seconds ?? Infinity);
    const left = seconds === undefined ? {} : { seconds: Math.max(1, seconds - alignSeconds - 2 * first.seconds - forGenres) };
    const training = adaptable.adapt(async (step) => teacher.teach(batch(step), step), { ...task.options, ...rates, ...left });
    await watch(training);
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
      otherSeconds: alignSeconds + first.seconds + secondsSince(finished),
      ...(items.ndcg && { itemRows: items.ndcg }),
      ...(named?.ndcg && { genreRows: named.ndcg }),
    };
  } finally {
    await encoder.dispose();
  }
}

/** The fit before a training whose checkpoint is there; undefined where there is none. */
async function readFirstFit(checkpoint: string): Promise<FirstFit | undefined> {
  if (!existsSync(checkpoint)) return undefined;
  const text = await readFile(firstFitFile(checkpoint), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : firstFitShape.parse(JSON.parse(text));
}
