import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { AutoModelForCausalLM, Tensor } from '@huggingface/transformers';
import * as ort from 'onnxruntime-node';
import { adaptJointModel } from '../src/adaptation/adapt.js';
import type { AdaptationExample } from '../src/adaptation/examples.js';
import { placeholdersOf, textRow } from '../src/adaptation/text-rows.js';
import { AdaptationError } from '../src/errors.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { fitRidge } from '../src/items/ridge-regression.js';
import { LanguageModel } from '../src/language-model.js';
import { byItemTokens } from '../src/ranking/by-item-tokens.js';
import { byRetrieval } from '../src/ranking/by-retrieval.js';
import { byTitle } from '../src/ranking/by-title.js';
import { filmModel, filmModelSizes, films } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const wordy = filmModel;
const sizes = filmModelSizes;
const base = wordy.withItemTokens(films);
const messages = [{ role: 'user', content: 'What next?' }] as const;
const promptIds = base.tokenizer.chat(messages);
const encoder = ToyEncoder.create(2);
const options = { strategy: 'full', steps: 120, batchSize: 18, seed: 5, learningRate: 1e-2, threads: 1 } as const;

/** A user's last film is the one to be named, by its token alone. */
const examples: AdaptationExample<ToyHistory>[] = Array.from({ length: 36 }, (_, i) => {
  const history: ToyHistory = [i % 6, Math.floor(i / 6)];
  return { history, promptIds, answerIds: [], items: [{ item: history[1] }] };
});

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'item-tokens-'))));
afterAll(async () => rm(folder, { recursive: true }));

const row = (model: LanguageModel, item: number) =>
  (model.itemTokens!.rows.data as Float32Array).subarray(item * sizes.width, (item + 1) * sizes.width);

describe('tokens for items', () => {
  test("start as the mean of their title's token vectors", () => {
    const table = base.weights.get('model.embed_tokens.weight')!.data as Float32Array;
    films.forEach(({ text }, item) => {
      const ids = base.tokenizer.encode(text);
      for (let i = 0; i < sizes.width; i++) {
        const mean = ids.reduce((sum, id) => sum + table[id * sizes.width + i], 0) / ids.length;
        expect(row(base, item)[i]).toBeCloseTo(mean, 6);
      }
    });
  });

  test('are one for each item', () => {
    expect(() => base.withItemTokens([films[2]])).toThrow("'film-2' has a token already");
    expect(() => wordy.withItemTokens([])).toThrow('no items');
  });

  test('that are added to a trained model leave those that there are alone, and start where titles like theirs went', async () => {
    const { model } = await base.adapt(
      examples.map(({ history: _, ...example }) => example),
      { ...options, steps: 20 },
    ).result;
    const grown = model.withItemTokens([{ id: 'twin', text: films[3].text }]);
    expect(grown.itemTokens!.items).toHaveLength(7);
    for (let item = 0; item < 6; item++) expect(row(grown, item)).toEqual(row(model, item));
    const distance = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((value, i) => value - b[i]));
    // Nearer to its twin than the untrained mean of the same title is.
    expect(distance(row(grown, 6), row(model, 3))).toBeLessThan(distance(row(base, 3), row(model, 3)));
  });
});

describe('ridge regression', () => {
  test('finds a linear function with an intercept, up to its penalty', () => {
    const inputs = Float32Array.from({ length: 400 }, (_, i) => Math.sin(7 * i * i));
    const outputs = inputs.map((_, i) => (i % 2 === 0 ? 3 + 2 * inputs[i] - inputs[i + 1] : -1 + inputs[i - 1]));
    const fitted = fitRidge(inputs, outputs, 2);
    const [first, second] = fitted([0.5, 0.25]);
    expect(first).toBeCloseTo(3.75, 0);
    expect(Math.abs(first - 3.75)).toBeLessThan(0.15);
    expect(Math.abs(second + 0.5)).toBeLessThan(0.1);
  });

  test('is zero without anything to learn from', () => {
    expect(fitRidge(new Float32Array(0), new Float32Array(0), 2)([1, 2])).toEqual(Float64Array.of(0, 0));
  });
});

describe('examples that name items', () => {
  const model = { decoder: base, itemRows: base.itemTokens!.rows };
  const lossOf = async (list: readonly AdaptationExample<never>[]) => {
    const { record } = await adaptJointModel<never>(model, list, {
      ...options,
      steps: 1,
      learningRate: 1e-9,
      validation: { examples: list, everySteps: 100 },
    }).result;
    return record.validation.at(-1)!.loss;
  };
  const named = (item: number, probabilities?: readonly number[]) => ({
    promptIds,
    answerIds: [],
    items: [{ item, probabilities }],
  });

  test('cost the cross-entropy among all items', async () => {
    const certain = films.map((_, item) => (item === 4 ? 1 : 0));
    expect(await lossOf([named(4, certain)])).toBeCloseTo(await lossOf([named(4)]), 5);
    const [of1, of4] = [await lossOf([named(1)]), await lossOf([named(4)])];
    const both = films.map((_, item) => (item === 1 ? 0.25 : item === 4 ? 0.75 : 0));
    expect(await lossOf([named(1, both)])).toBeCloseTo(0.25 * of1 + 0.75 * of4, 5);
    const losses = await Promise.all(films.map((_, item) => lossOf([named(item)])));
    expect(losses.reduce((sum, loss) => sum + Math.exp(-loss), 0)).toBeCloseTo(1, 5);
  });

  test('are told from none that is excluded, but for what is right itself', async () => {
    const losses = await Promise.all(films.map((_, item) => lossOf([named(item)])));
    const left = (excluded: number[]) => 1 - excluded.reduce((sum, item) => sum + Math.exp(-losses[item]), 0);
    const among = (excluded: number[], item: number, probabilities?: readonly number[]) =>
      lossOf([{ promptIds, answerIds: [], items: [{ item, probabilities, excluded }] }]);
    expect(await among([2, 3, 2], 1)).toBeCloseTo(losses[1] + Math.log(left([2, 3])), 4);
    expect(await among([1, 3], 1)).toBeCloseTo(losses[1] + Math.log(left([3])), 4);
    const both = films.map((_, item) => (item === 1 ? 0.25 : item === 4 ? 0.75 : 0));
    const expected = 0.25 * losses[1] + 0.75 * losses[4] + Math.log(left([2, 3]));
    expect(await among([2, 3, 4], 1, both)).toBeCloseTo(expected, 4);
    // Next to an example that excludes nothing.
    const excluding = { promptIds, answerIds: [], items: [{ item: 1, excluded: [2, 3] }] };
    expect(await lossOf([excluding, named(4)])).toBeCloseTo((losses[1] + Math.log(left([2, 3])) + losses[4]) / 2, 4);
  });

  test('may name several within a prompt, and say an answer in words too, each with its weight', async () => {
    const answerIds = base.tokenizer.encode('Heat');
    const inWords = await lossOf([{ promptIds, answerIds }]);
    const first = await lossOf([{ promptIds: promptIds.slice(0, 1), answerIds: [], items: [{ item: 2 }] }]);
    const last = await lossOf([named(5)]);
    const all = { promptIds, answerIds, items: [{ item: 2, after: 0, weight: 2 }, { item: 5 }] };
    const words = answerIds.length;
    expect(await lossOf([all])).toBeCloseTo((words * inWords + 2 * first + last) / (words + 3), 5);
  });

  test('are placed behind the placeholders of a soft prompt', () => {
    const user = { integration: softPrompt(), shape: { userTokens: 2, userWidth: 8 } };
    const shape = { ...base.config, placeholders: placeholdersOf(base.config, user), named: { item: 6, label: 0 } };
    const example = { history: [0, 1], promptIds: [7, 8, 9], answerIds: [], items: [{ item: 3, after: 1 }] };
    const { input, named } = textRow(example, shape, 'it');
    const first = base.config.vocabularySize;
    expect(Array.from(input)).toEqual([first, first + 1, 7, 8, 9]);
    expect(named).toEqual({ item: [{ position: 3, target: 3, weight: 1 }], label: [] });
  });

  test.each<[string, AdaptationExample<never>, RegExp]>([
    ['an item that there is not', named(6), /item 6 is none of the 6/],
    [
      'an excluded item that there is not',
      { ...named(0), items: [{ item: 0, excluded: [6] }] },
      /excludes item 6, which is none/,
    ],
    ['a place outside the prompt', { ...named(0), items: [{ item: 0, after: 99 }] }, /after token 99/],
    ['probabilities of other items', named(0, [1]), /1 probabilities for the 6 items/],
    ['probabilities that do not sum to 1', named(0, [1, 1, 0, 0, 0, 0]), /sums to 2, not 1/],
    ['nothing to say', { promptIds, answerIds: [] }, /the answer is empty/],
  ])('are refused with %s', async (_, example, message) => {
    await expect(adaptJointModel<never>(model, [example], options).result).rejects.toThrow(message);
  });

  test('are refused by a model without item tokens', async () => {
    const run = wordy.adapt([named(0)], options);
    await expect(run.result).rejects.toThrow(AdaptationError);
    await expect(run.result).rejects.toThrow('withItemTokens');
  });
});

describe('what a strategy leaves alone', () => {
  test('the decoder, under `encoder`, while the items learn', async () => {
    const adaptable = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1, gate: 0.5 }) });
    const { model } = await adaptable.adapt(examples, { ...options, strategy: 'encoder', steps: 2 }).result;
    for (const [name, { data }] of base.weights) expect(model.weights.get(name)!.data).toEqual(data);
    expect(row(model, 0)).not.toEqual(row(base, 0));
  });
});

describe.each<[string, Integration]>([
  ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.5 })],
  ['soft prompt', softPrompt()],
])('a model adapted on item tokens by %s', (name, integration) => {
  let model: LanguageModel;
  let adapted: ToyEncoder;
  const place = () => path.join(folder, name.replaceAll(' ', '-'));
  beforeAll(async () => {
    const run = base.withUserEmbeddings({ encoder, integration }).adapt(examples, options);
    ({ model, encoder: adapted } = await run.result);
    await model.save(place());
  });
  afterAll(() => model.dispose());

  test('names each user their film, in one pass over the prompt', async () => {
    for (const last of [0, 2, 5]) {
      const ranking = await model.rank({ messages, user: adapted.encode([1, last]), top: 3 });
      expect(ranking.items[0].id).toBe(`film-${last}`);
      expect(ranking).toMatchObject({ way: 'item-tokens', tokens: 0, steps: 0 });
      expect(ranking.items).toHaveLength(3);
    }
  });

  test('is the same from the saved folder, to rank and to train on', async () => {
    const user = adapted.encode([3, 4]);
    const served = await LanguageModel.open(place(), { threads: 1 });
    const loaded = await LanguageModel.load(place());
    expect(served.items).toEqual(films);
    expect(loaded.itemTokens!.items).toEqual(films);
    expect(loaded.itemTokens!.rows.data).toEqual(model.itemTokens!.rows.data);
    const wanted = await model.rank({ messages, user, top: 6 });
    const found = await served.rank({ messages, user, top: 6, by: 'item-tokens' });
    expect(Array.from(found.items, (item) => films[item].id)).toEqual(wanted.items.map(({ id }) => id));
    expect(Array.from(found.scores)).toEqual(wanted.items.map(({ score }) => score));
    expect(found.scores.reduce((sum, score) => sum + Math.exp(score), 0)).toBeCloseTo(1, 6);
    await served.dispose();
  });

  test('says in plain transformers.js what it says here', async () => {
    const user = adapted.encode([0, 2]);
    const served = await LanguageModel.open(place(), { threads: 1 });
    const state = await served.userState(user);
    const ids = served.promptIds({ messages }, true);
    const plain = await AutoModelForCausalLM.from_pretrained(place(), { local_files_only: true });
    plain.forward_params.push('user_embeddings');
    const { last_hidden_state } = (await plain.forward({
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      user_embeddings: new Tensor('float32', state.packed, [...state.shape]),
    })) as { last_hidden_state: { data: Float32Array; dims: number[] } };
    const items = await ort.InferenceSession.create(path.join(place(), 'onnx', 'items.onnx'));
    const last = last_hidden_state.data.slice(-sizes.width);
    const { item_logits } = await items.run({ last_hidden_state: new ort.Tensor('float32', last, [1, sizes.width]) });
    const logits = item_logits.data as Float32Array;
    const [best] = (await served.rank({ messages, user: state, top: 1, by: byItemTokens(6) })).items;
    expect(logits.indexOf(Math.max(...logits))).toBe(best);
    await items.release();
    await plain.dispose();
    await served.dispose();
  });

  test('ranks items that were added later, without training', async () => {
    const grown = model.withItemTokens([{ id: 'sequel', text: 'Toy Story 3' }]);
    const { items } = await grown.rank({ messages, user: adapted.encode([0, 3]), top: 7 });
    expect(items[0].id).toBe('film-3');
    expect(items.map(({ id }) => id)).toContain('sequel');
    await grown.dispose();
  });
});

describe('the ways to rank', () => {
  const titles = base.trie(films.map(({ text }) => text));
  const retriever = () => [0, 3, 1, 5, 2, 4];
  const request = { messages, top: 6 } as const;
  afterAll(() => base.dispose());

  test.each([byTitle(titles), byItemTokens(6)])('retrieving the whole catalogue changes nothing: $way', async (ranker) => {
    const served = await base.serve({ threads: 1 });
    const alone = await served.rank({
      ...request,
      by: ranker.way === 'title' ? byTitle(titles, { among: 'vocabulary' }) : ranker,
    });
    const anew = await served.rank({ ...request, by: byRetrieval({ retriever, ranker }) });
    expect(anew.way).toBe('retrieve');
    expect(anew.items).toEqual(alone.items);
    anew.scores.forEach((score, i) => expect(score).toBeCloseTo(alone.scores[i], 4));
    await served.dispose();
  });

  test('only what was retrieved is ranked, less what is excluded', async () => {
    const ranking = { by: 'item-tokens', retrieve: { retriever, candidates: 3 } } as const;
    const found = await base.rank({ messages, top: 2, exclude: ['film-3'], ...ranking });
    const among = await base.rank({ messages, top: 6 });
    const expected = among.items.map(({ id }) => id).filter((id) => ['film-1', 'film-4', 'film-5'].includes(id));
    expect(found.items.map(({ id }) => id)).toEqual(expected.slice(0, 2));
  });

  test('by title, too, what is excluded is neither retrieved nor mistaken for another', async () => {
    const ranking = { candidates: films, by: 'title', among: 'vocabulary', messages } as const;
    for (const exclude of [['film-0'], ['film-5'], ['film-3', 'film-1']]) {
      const alone = await base.rank({ ...ranking, top: 6, exclude });
      const all = await base.rank({ ...ranking, top: 6, exclude, retrieve: { retriever } });
      expect(all.items.map(({ id }) => id)).toEqual(alone.items.map(({ id }) => id));
      all.items.forEach(({ score }, i) => expect(score).toBeCloseTo(alone.items[i].score, 4));
      const few = await base.rank({ ...ranking, top: 2, exclude, retrieve: { retriever, candidates: 2 } });
      expect(few.items).toHaveLength(2);
      expect(few.items.filter(({ id }) => exclude.includes(id))).toEqual([]);
    }
  });

  test("a share of one is the retriever's order, and a share between mixes log-probabilities", async () => {
    const ranking = { by: 'item-tokens', top: 6, messages } as const;
    const alone = await base.rank({ ...ranking, retrieve: { retriever, retrieverShare: 1 } });
    expect(alone.items.map(({ id }) => id)).toEqual(['film-3', 'film-5', 'film-1', 'film-4', 'film-2', 'film-0']);
    const model = new Map((await base.rank(ranking)).items.map(({ id, score }) => [id, score]));
    const half = await base.rank({ ...ranking, retrieve: { retriever, retrieverShare: 0.5 } });
    const quick = new Map(alone.items.map(({ id, score }) => [id, score]));
    for (const { id, score } of half.items) expect(score).toBeCloseTo((model.get(id)! + quick.get(id)!) / 2, 6);
  });

  test.each([0, 0.5, 1])(
    'a retriever that knows nothing leaves the order to the model, with a share of %d',
    async (retrieverShare) => {
      const candidates = [films[4], films[1], films[2]];
      const knowsNone = { retriever: () => candidates.map(() => -Infinity), retrieverShare };
      for (const [by, among] of [['item-tokens'], ['title', 'vocabulary']] as const) {
        const ranking = { ...request, candidates, by, ...(among && { among }) };
        const { items } = await base.rank(ranking);
        const found = await base.rank({ ...ranking, retrieve: knowsNone });
        expect(found.items.map(({ id }) => id)).toEqual(items.map(({ id }) => id));
      }
    },
  );

  test('the retriever is told of scores that are none', async () => {
    for (const wrong of [NaN, Infinity])
      await expect(base.rank({ ...request, retrieve: { retriever: () => [0, 1, 2, wrong, 4, 5] } })).rejects.toThrow(
        new RangeError(`The retriever scores an item ${wrong}; give numbers, and -Infinity for an item that it does not know.`),
      );
  });

  test('candidates are ranked as they are now, not as they were', async () => {
    const candidates = [films[0], films[1]];
    const fresh = async () => (await base.rank({ ...request, candidates: [...candidates] })).items;
    expect((await base.rank({ ...request, candidates })).items).toEqual(await fresh());
    candidates.push(films[4]);
    expect((await base.rank({ ...request, candidates })).items).toEqual(await fresh());
    candidates[0] = films[5];
    expect((await base.rank({ ...request, candidates })).items).toEqual(await fresh());
  });

  test('all candidates of an id that is excluded are left out', async () => {
    const candidates = [films[0], { id: 'film-0', text: 'Heat, again' }, films[1]];
    const { items } = await base.rank({ ...request, candidates, exclude: ['film-0'] });
    expect(items.map(({ id }) => id)).toEqual(['film-1']);
  });

  test('some of the items can be ranked by their tokens', async () => {
    const candidates = [films[4], films[1]];
    const some = await base.rank({ ...request, candidates, by: 'item-tokens' });
    const all = await base.rank(request);
    expect(some.items).toEqual(all.items.filter(({ id }) => id === 'film-4' || id === 'film-1'));
    const mixed = await base.rank({
      ...request,
      candidates,
      by: 'item-tokens',
      retrieve: { retriever: () => [0, 1], retrieverShare: 1 },
    });
    expect(mixed.items.map(({ id }) => id)).toEqual(['film-1', 'film-4']);
  });

  test('what cannot be ranked is said', async () => {
    await expect(wordy.rank({ messages, top: 1 })).rejects.toThrow('withItemTokens');
    const stranger = [{ id: 'stranger', text: 'Stranger' }];
    await expect(base.rank({ messages, top: 1, candidates: stranger, by: 'item-tokens' })).rejects.toThrow("'stranger'");
    const short = { retriever: () => [1, 2] };
    await expect(base.rank({ messages, top: 1, retrieve: short })).rejects.toThrow('scores 2 items');
    const some = { candidates: films.slice(0, 3), by: 'item-tokens', retrieve: short } as const;
    await expect(base.rank({ messages, top: 1, ...some })).rejects.toThrow('scores 2 items, and 3 are candidates');
    expect(() => byRetrieval({ retriever, ranker: byItemTokens(6), retrieverShare: 2 })).toThrow('from 0 to 1');
    const served = await wordy.serve({ threads: 1 });
    await expect(served.rank({ messages, top: 1, by: byItemTokens(6) })).rejects.toThrow('no item tokens');
    await served.dispose();
  });

  test('what could not be opened is opened by the next call', async () => {
    const model = wordy.withItemTokens(films);
    const noRoom = new Error('no room');
    const serve = jest.spyOn(model, 'serve').mockRejectedValueOnce(noRoom);
    await expect(model.generate({ messages, maxNewTokens: 1 }).tokenIds).rejects.toBe(noRoom);
    await model.dispose();
    serve.mockRejectedValueOnce(noRoom);
    const failed = model.rank({ messages, top: 1 });
    await Promise.all([expect(failed).rejects.toBe(noRoom), model.dispose()]);
    expect((await model.rank({ messages, top: 6 })).items).toHaveLength(6);
    await model.dispose();
  });

  test('so is a graph of item tokens', async () => {
    const served = await base.serve({ threads: 1 });
    const noRoom = new Error('no room');
    jest.spyOn(ort.InferenceSession, 'create').mockRejectedValueOnce(noRoom);
    await expect(served.rank({ messages, top: 1, by: 'item-tokens' })).rejects.toBe(noRoom);
    expect((await served.rank({ messages, top: 6, by: 'item-tokens' })).items).toHaveLength(6);
    await served.dispose();
  });

  test('a folder whose items do not belong together is damaged', async () => {
    const place = path.join(folder, 'damaged');
    await base.save(place);
    const names = path.join(place, 'items.json');
    await writeFile(names, (await readFile(names, 'utf8')).replace('film-0', 'film-9'));
    await expect(LanguageModel.open(place)).rejects.toThrow('items.json');
  });
});
