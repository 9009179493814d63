import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { adaptJointModel } from '../src/adaptation/adapt.js';
import type { AdaptationExample } from '../src/adaptation/examples.js';
import type { ScoredExample } from '../src/adaptation/fit-rows.js';
import { AdaptationError } from '../src/errors.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import { byLabelTokens } from '../src/ranking/by-item-tokens.js';
import { filmModel, films } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const genres = ['Crime', 'Drama', 'Animation'].map((text) => ({ id: text.toLowerCase(), text }));
const named = filmModel.withItemTokens(films).withLabelTokens(genres);
const messages = [{ role: 'user', content: 'Which genre?' }] as const;
const promptIds = named.tokenizer.chat(messages);
const encoder = ToyEncoder.create(2);
const histories = Array.from({ length: 36 }, (_, i): ToyHistory => [i % 6, Math.floor(i / 6)]);

/** Two films are of each genre, and a user's genre is that of the last one. */
const genreOf = ([, film]: ToyHistory): number => film % 3;

const asked: AdaptationExample<ToyHistory>[] = histories.map((history) => ({
  history,
  promptIds,
  answerIds: [],
  labels: [{ label: genreOf(history) }],
}));

/** The truth as scores: 1 for the right genre. */
const truth = (label: (history: ToyHistory) => number = genreOf): ScoredExample<ToyHistory>[] =>
  histories.map((history) => ({ history, promptIds, scores: genres.map((_, i) => (i === label(history) ? 1 : 0)) }));

const reader = (integration = gatedCrossAttention({ every: 1, gate: 0.5 })) =>
  named.withUserEmbeddings({ encoder, integration, seed: 3 });

const rowsOf = (model: LanguageModel): Float32Array => model.labelTokens!.rows.data as Float32Array;

/** Histories whose genre a model does not name first. */
async function wrongOnes(model: LanguageModel, of: ToyEncoder): Promise<ToyHistory[]> {
  const wrong: ToyHistory[] = [];
  for (const history of histories) {
    const { items } = await model.rank({ messages, user: of.encode(history), by: 'label-tokens', top: 1 });
    if (items[0].id !== genres[genreOf(history)].id) wrong.push(history);
  }
  return wrong;
}

describe('labels with tokens', () => {
  test('are a list beside the items, each once', () => {
    expect(named.labelTokens!.items).toEqual(genres);
    expect(named.itemTokens!.items).toEqual(films);
    expect(() => named.withLabelTokens([genres[1]])).toThrow("The label 'drama' has a token already; give each label once.");
    expect(() => filmModel.withLabelTokens([])).toThrow('no labels');
  });

  test('are ranked by one pass over the prompt, all of them or some', async () => {
    const all = await named.rank({ messages, by: 'label-tokens', top: 3 });
    expect(all).toMatchObject({ way: 'label-tokens', tokens: 0, steps: 0 });
    expect(all.items.reduce((sum, { score }) => sum + Math.exp(score), 0)).toBeCloseTo(1, 6);
    const some = await named.rank({ messages, by: 'label-tokens', candidates: [genres[2], genres[0]], top: 3 });
    expect(some.items).toEqual(all.items.filter(({ id }) => id !== 'drama'));
    // The product of three rows with one state is counted, and nothing of the six items.
    const byItems = await named.rank({ messages, top: 1 });
    expect(byItems.flops - all.flops).toBe(2 * 3 * named.config.hiddenSize);
    await named.dispose();
  });

  test('are missing where nobody made some', async () => {
    await expect(filmModel.rank({ messages, by: 'label-tokens', top: 1 })).rejects.toThrow('withLabelTokens');
    const served = await filmModel.serve({ threads: 1 });
    await expect(served.rank({ messages, by: byLabelTokens(3), top: 1 })).rejects.toThrow('no label tokens');
    await served.dispose();
    expect(() => filmModel.example({ messages, label: 'drama' })).toThrow("The label 'drama' has no token");
    const joint = { decoder: filmModel, itemRows: named.itemTokens!.rows };
    const options = { strategy: 'full', steps: 1, threads: 1 } as const;
    const examples = asked.map(({ history: _, ...example }) => example);
    await expect(adaptJointModel<never>(joint, examples, options).result).rejects.toThrow('no label tokens');
  });
});

describe('label tokens in training', () => {
  test('learn by a softmax over all labels, beside items and words', async () => {
    const joint = { decoder: named, itemRows: named.itemTokens!.rows, labelRows: named.labelTokens!.rows };
    const lossOf = async (example: AdaptationExample<never>) => {
      const { record } = await adaptJointModel<never>(joint, [example], {
        ...{ strategy: 'full', steps: 1, learningRate: 1e-9, threads: 1 },
        validation: { examples: [example], everySteps: 100 },
      }).result;
      return record.validation.at(-1)!.loss;
    };
    const label = (place: number) => ({ promptIds, answerIds: [], labels: [{ label: place }] });
    const losses = [await lossOf(label(0)), await lossOf(label(1)), await lossOf(label(2))];
    expect(losses.reduce((sum, loss) => sum + Math.exp(-loss), 0)).toBeCloseTo(1, 5);
    const item = await lossOf({ promptIds, answerIds: [], items: [{ item: 4 }] });
    expect(await lossOf({ ...label(1), items: [{ item: 4, weight: 3 }] })).toBeCloseTo((losses[1] + 3 * item) / 4, 5);
    const spread = { ...label(0), labels: [{ label: 0, probabilities: [0.5, 0, 0.5] }] };
    expect(await lossOf(spread)).toBeCloseTo((losses[0] + losses[2]) / 2, 5);
    await expect(lossOf(label(3))).rejects.toThrow('label 3 is none of the 3 labels that have a token');
  });

  test('let a model learn the genre of every user', async () => {
    const { model, encoder: adapted } = await reader().adapt(asked, {
      ...{ strategy: 'full', steps: 100, batchSize: 36, seed: 5, learningRate: 1e-2, threads: 1 },
    }).result;
    expect(await wrongOnes(model, adapted)).toEqual([]);
    await model.dispose();
  });
});

describe('label tokens that are fitted', () => {
  let fitted: LanguageModel;
  beforeAll(async () => {
    ({
      adaptable: { model: fitted },
    } = await reader().fitLabelTokens([truth().slice(0, 18), truth().slice(18)], { strength: 1e-5, threads: 1 }));
  });
  afterAll(() => fitted.dispose());

  test('to the truth name the genre of every user, without any training', async () => {
    expect(await wrongOnes(fitted, encoder)).toEqual([]);
    expect(fitted.itemTokens).toBe(named.itemTokens);
    expect(fitted.weights).toBe(named.weights);
  });

  test('and through a soft prompt', async () => {
    const { adaptable } = await reader(softPrompt()).fitLabelTokens([truth()], { strength: 1e-5, threads: 1 });
    expect(await wrongOnes(adaptable.model, encoder)).toEqual([]);
    await adaptable.model.dispose();
  });

  test('take the strength that ranks validation examples best, and stay away where the rows that there were do better', async () => {
    const options = { validation: asked, threads: 1 };
    const chosen = await reader().fitLabelTokens([truth()], { ...options, strength: [1e6, 1e-5, 1e5] });
    expect(chosen.strength).toBe(1e-5);
    expect(chosen.ndcg!.fitted).toBeCloseTo(1, 6);
    const misled = await chosen.adaptable.fitLabelTokens([truth(([, film]) => (film + 1) % 3)], options);
    expect(misled.ndcg!.before).toBeCloseTo(1, 6);
    expect(misled.ndcg!.fitted).toBeLessThan(1);
    expect(rowsOf(misled.adaptable.model)).toEqual(rowsOf(chosen.adaptable.model));
  });

  test('need labels with tokens, and something to choose strengths by', async () => {
    const fit = (strength: number | readonly number[]) => reader().fitLabelTokens([truth()], { strength, threads: 1 });
    await expect(fit([1, 2])).rejects.toThrow(AdaptationError);
    await expect(fit([1, 2])).rejects.toThrow('give validation examples to choose by');
    await expect(fit([])).rejects.toThrow('none to choose from');
    const withItems = [{ history: histories[0], promptIds, answerIds: [], items: [{ item: 0 }] }];
    await expect(reader().fitLabelTokens([truth()], { validation: withItems, threads: 1 })).rejects.toThrow('names one label');
    const unnamed = filmModel.withUserEmbeddings({ encoder, integration: softPrompt() });
    await expect(unnamed.fitLabelTokens([truth()])).rejects.toThrow('has no label tokens; make some with withLabelTokens');
  });

  test('suit a model that reads its prompt alone', async () => {
    const prompts = films.map(({ text }) => named.tokenizer.chat([{ role: 'user', content: `${text}. Which genre?` }]));
    const scored = prompts.map((ids, film) => ({ promptIds: ids, scores: genres.map((_, i) => (i === film % 3 ? 1 : 0)) }));
    const { model } = await named.fitLabelTokens([scored], { strength: 1e-7, threads: 1 });
    for (const [film, ids] of prompts.entries()) {
      const { items } = await model.rank({ promptIds: ids, by: 'label-tokens', top: 1 });
      expect(items[0].id).toBe(genres[film % 3].id);
    }
    await model.dispose();
  });

  test('are saved, to be ranked by and to be trained on', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'label-tokens-'));
    const place = path.join(folder, 'model');
    await fitted.save(place);
    const user = encoder.encode([1, 4]);
    const wanted = await fitted.rank({ messages, user, by: 'label-tokens', top: 3 });
    const [served, loaded] = [await LanguageModel.open(place, { threads: 1 }), await LanguageModel.load(place)];
    expect(served.labels).toEqual(genres);
    expect(served.items).toEqual(films);
    expect(rowsOf(loaded)).toEqual(rowsOf(fitted));
    const found = await served.rank({ messages, user, by: 'label-tokens', top: 3 });
    expect(Array.from(found.items, (label) => genres[label].id)).toEqual(wanted.items.map(({ id }) => id));
    expect(Array.from(found.scores)).toEqual(wanted.items.map(({ score }) => score));
    await served.dispose();
    const workers = await LanguageModel.openInWorkers(place, { threads: 1 });
    expect((await workers.rank({ messages, user, by: 'label-tokens', top: 3 })).items).toEqual(found.items);
    await workers.dispose();
    const names = path.join(place, 'labels.json');
    await writeFile(names, (await readFile(names, 'utf8')).replace('drama', 'other'));
    await expect(LanguageModel.open(place)).rejects.toThrow('labels.json');
    await rm(folder, { recursive: true });
  });
});
