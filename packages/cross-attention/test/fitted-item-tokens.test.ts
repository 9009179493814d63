import { describe, expect, test } from '@jest/globals';
import { adaptJointModel } from '../src/adaptation/adapt.js';
import type { AdaptationExample } from '../src/adaptation/examples.js';
import type { ScoredExample } from '../src/adaptation/fit-rows.js';
import { AdaptationError } from '../src/errors.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import { filmModel, films, filmTokenizer } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const base = filmModel.withItemTokens(films);
const promptIds = base.tokenizer.chat([{ role: 'user', content: 'What next?' }]);
const encoder = ToyEncoder.create(2);
const histories = Array.from({ length: 36 }, (_, i): ToyHistory => [i % 6, Math.floor(i / 6)]);

/** A teacher that thinks most of one film of six, the one that `pick` says. */
const scored = (pick: (history: ToyHistory) => number, constant = 0): ScoredExample<ToyHistory>[] =>
  histories.map((history) => ({
    history,
    promptIds,
    scores: films.map((_, item) => constant + (item === pick(history) ? 5 : 0)),
  }));
const last = ([, film]: ToyHistory): number => film;
const first = ([film]: ToyHistory): number => film;

/** Every history asks for its last film. */
const asked: AdaptationExample<ToyHistory>[] = histories.map((history) => ({
  history,
  promptIds,
  answerIds: [],
  items: [{ item: last(history) }],
}));

const reader = (integration = gatedCrossAttention({ every: 1, gate: 0.5 })) =>
  base.withUserEmbeddings({ encoder, integration, seed: 3 });
const rowsOf = ({ model }: { model: LanguageModel }): Float32Array => model.itemTokens!.rows.data as Float32Array;

describe('item tokens that are fitted to a teacher', () => {
  test.each([
    ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.5 })],
    ['a soft prompt', softPrompt()],
  ])('let an untrained model answer as the teacher does, through %s', async (_, integration) => {
    // A state of 64 numbers has room for what 36 histories are asked.
    const { adaptable } = await reader(integration).fitItemTokens([scored(last).slice(0, 20), scored(last).slice(20)], {
      strength: 1e-5,
      threads: 1,
    });
    const wrong: ToyHistory[] = [];
    for (const history of histories) {
      const { items } = await adaptable.model.rank({ promptIds, user: encoder.encode(history), by: 'item-tokens', top: 1 });
      if (items[0].id !== films[last(history)].id) wrong.push(history);
    }
    await adaptable.model.dispose();
    expect(wrong).toEqual([]);
  });

  test('do not depend on a constant in the scores, and change nothing else of the model', async () => {
    const before = reader();
    const { adaptable } = await before.fitItemTokens([scored(last)], { threads: 1 });
    const shifted = await before.fitItemTokens([scored(last, 100)], { threads: 1 });
    rowsOf(shifted.adaptable).forEach((value, i) => expect(value).toBeCloseTo(rowsOf(adaptable)[i], 2));
    expect(adaptable.model.weights).toBe(before.model.weights);
    expect(adaptable.model.user!.weights).toBe(before.model.user!.weights);
  });

  test('are fitted to prompts without a user, too, wherever those come', async () => {
    const texts = scored(first)
      .slice(0, 6)
      .map(({ promptIds, scores }) => ({ promptIds, scores }));
    const last18 = scored(last).slice(18);
    const before = await reader().fitItemTokens([last18, texts], { threads: 1 });
    const behind = await reader().fitItemTokens([texts, last18], { threads: 1 });
    rowsOf(behind.adaptable).forEach((value, i) => expect(value).toBeCloseTo(rowsOf(before.adaptable)[i], 2));
    // Somebody who is validated on will do.
    await reader().fitItemTokens([texts], { validation: asked, threads: 1 });
    await expect(reader().fitItemTokens([texts])).rejects.toThrow('none has a history');
  });

  test('replace others only where they rank validation examples better', async () => {
    const right = await reader().fitItemTokens([scored(last)], { validation: asked, threads: 1 });
    expect(right.ndcg!.fitted).toBeGreaterThan(right.ndcg!.before);
    const misled = await right.adaptable.fitItemTokens([scored(first)], { validation: asked, threads: 1 });
    expect(misled.ndcg!.before).toBeCloseTo(right.ndcg!.fitted, 6);
    expect(misled.ndcg!.fitted).toBeLessThan(misled.ndcg!.before);
    expect(rowsOf(misled.adaptable)).toEqual(rowsOf(right.adaptable));
  });

  test('need item tokens, scores for all of them, and examples', async () => {
    const without = LanguageModel.create(
      { width: 16, layers: 1, heads: 1, keyValueHeads: 1, intermediate: 16, context: 48 },
      filmTokenizer,
      1,
    ).withUserEmbeddings({ encoder, integration: softPrompt() });
    const refusal = async (fit: Promise<unknown>) => {
      const error = await fit.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(AdaptationError);
      return (error as AdaptationError).message;
    };
    const one = scored(last)[0];
    expect(await refusal(without.fitItemTokens([[one]]))).toContain('no item tokens');
    expect(await refusal(reader().fitItemTokens([]))).toContain('there are none');
    expect(await refusal(reader().fitItemTokens([[{ ...one, scores: [1, 2] }]]))).toContain('has 2 of them for the 6 items');
    expect(await refusal(reader().fitItemTokens([[{ ...one, scores: [1, 2, 3, 4, 5, NaN] }]]))).toContain('not a finite number');
    expect(await refusal(reader().fitItemTokens([[one]], { strength: 0 }))).toContain('must be above 0');
    expect(await refusal(reader().fitItemTokens([[one]], { strength: 1e-20 }))).toBe(
      'strength: 1e-20 is too little for these states to determine the rows; give more, or more examples',
    );
    const inWords = [{ promptIds, answerIds: [1], history: histories[0] }];
    expect(await refusal(reader().fitItemTokens([[one]], { validation: inWords }))).toContain('names one item');
  });
});

describe('validation by ranking', () => {
  const joint = { decoder: base, itemRows: base.itemTokens!.rows };
  const strangers = films.map((_, item) => ({ promptIds, answerIds: [], items: [{ item }] }));
  const options = { strategy: 'full', batchSize: 6, seed: 5, threads: 1, steps: 1, learningRate: 1e-9 } as const;

  test('is the NDCG without a cutoff of the served ranking', async () => {
    const { record } = await adaptJointModel<never>(joint, strangers, {
      ...options,
      validation: { examples: strangers, by: 'ranking' },
    }).result;
    // The right films of one prompt have the ranks 1 to 6, whatever the model thinks.
    const expected = [1, 2, 3, 4, 5, 6].reduce((sum, rank) => sum + 1 / Math.log2(1 + rank) / 6, 0);
    expect(record.validation.at(-1)!.ndcg).toBeCloseTo(expected, 6);
    const { items } = await base.rank({ promptIds, by: 'item-tokens', top: 6 });
    const third = [strangers[Number(items[2].id.at(-1))]];
    const ofThird = async (excluded: number[]) => {
      const examples = third.map((example) => ({ ...example, items: [{ ...example.items[0], excluded }] }));
      const { record } = await adaptJointModel<never>(joint, strangers, { ...options, validation: { examples, by: 'ranking' } })
        .result;
      return record.validation.at(-1)!.ndcg;
    };
    expect(await ofThird([])).toBeCloseTo(1 / Math.log2(4), 6);
    expect(await ofThird([Number(items[0].id.at(-1)), Number(items[5].id.at(-1))])).toBeCloseTo(1 / Math.log2(3), 6);
    // Whoever had an item twice does not leave it out twice.
    expect(await ofThird([Number(items[0].id.at(-1)), Number(items[0].id.at(-1))])).toBeCloseTo(1 / Math.log2(3), 6);
    await base.dispose();
  });

  test('keeps the first weights of the highest NDCG, and not those of the lowest loss', async () => {
    // Learning lowers the loss of the right film; its rank is the best from the start, since no other one is asked about.
    const [right] = strangers;
    const alone = { ...right, items: [{ item: 0, excluded: [1, 2, 3, 4, 5] }] };
    const learned = async (by: 'loss' | 'ranking') =>
      adaptJointModel<never>(joint, [right], {
        ...options,
        steps: 9,
        learningRate: 1e-2,
        validation: { examples: [by === 'loss' ? right : alone], by, everySteps: 3 },
      }).result;
    const { record } = await learned('ranking');
    expect(record.validation.map(({ ndcg }) => ndcg)).toEqual([1, 1, 1]);
    expect(record.bestStep).toBe(3);
    expect((await learned('loss')).record.bestStep).toBe(9);
  });

  test('keeps none of the weights before the share of the budget that is told', async () => {
    const { record } = await adaptJointModel<never>(joint, strangers.slice(0, 3), {
      ...options,
      steps: 20,
      learningRate: 3e-2,
      validation: { examples: strangers.slice(3), by: 'ranking', everySteps: 2, keepFrom: 0.75 },
    }).result;
    expect(record.validation.filter(({ early }) => early).map(({ step }) => step)).toEqual([2, 4, 6, 8, 10, 12, 14]);
    const late = record.validation.filter(({ early }) => !early);
    const best = late.reduce((a, b) => (b.ndcg! > a.ndcg! ? b : a));
    expect(record.bestStep).toBe(best.step);
    expect(best.step).toBeGreaterThanOrEqual(16);
  });

  test('needs examples that name items', async () => {
    const inWords = [{ promptIds, answerIds: [1] }];
    await expect(
      adaptJointModel<never>(joint, strangers, { ...options, validation: { examples: inWords, by: 'ranking' } }).result,
    ).rejects.toThrow('by ranking needs an item in each example');
  });
});

test('rows of item tokens learn at a rate of their own', async () => {
  const rows = async (itemRate: number) => {
    const options = { strategy: 'full', steps: 3, batchSize: 12, learningRate: 1e-2, seed: 1, threads: 1, itemRate } as const;
    return rowsOf(await reader().adapt(asked, options).result);
  };
  const start = rowsOf(reader());
  expect(await rows(0)).toEqual(start);
  const moved = (rows: Float32Array) => Math.hypot(...rows.map((value, i) => value - start[i]));
  const [slow, fast] = [moved(await rows(0.1)), moved(await rows(1))];
  expect(slow).toBeGreaterThan(0);
  expect(slow).toBeLessThan(0.2 * fast);
});
