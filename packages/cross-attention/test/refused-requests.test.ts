import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EncoderMismatchError } from '../src/errors.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { LanguageModel } from '../src/language-model.js';
import { byItemTokens } from '../src/ranking/by-item-tokens.js';
import { byRetrieval } from '../src/ranking/by-retrieval.js';
import { integerComputation } from '../src/serve-model.js';
import type { ServedModel } from '../src/serving/served-model.js';
import type { ReadableEmbedding } from '../src/serving/user-state.js';
import { filmModel, films } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';

const encoder = ToyEncoder.create(2);
const prompt = 'What next?';
const titles = films.map(({ text }) => text);
const trie = filmModel.trie(titles);

let folder: string;
let model: LanguageModel;
let served: ServedModel;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'refused-requests-'));
  const integration = gatedCrossAttention({ every: 1, gate: 0.9 });
  model = filmModel.withItemTokens(films).withUserEmbeddings({ encoder, integration, seed: 3 }).model;
  served = await model.serve({ threads: 1 });
});
afterAll(async () => {
  await served.dispose();
  await model.dispose();
  await rm(folder, { recursive: true });
});

/** Requests as they come without types. */
const untyped = (request: object) => request as never;

describe('a request that cannot be answered as it asks says so', () => {
  test('sampling and settings are each read by one way of answering, and refused by the other', async () => {
    const sampled = untyped({ prompt, sampling: { seed: 1, temperature: 3 } });
    expect(() => served.generate(sampled)).toThrow(/^sampling is read by a scheduler .* Give settings/);
    await expect(model.generate(sampled).text).rejects.toThrow(RangeError);
    const set = untyped({ prompt, settings: { do_sample: true, temperature: 3 } });
    expect(() => served.scheduler().generate(set)).toThrow(/^settings are of transformers\.js.* Give a scheduler sampling/);
  });

  test.each([
    ['streamer', 'settings.streamer cannot be set: the text comes piece by piece as textStream of the answer.'],
    ['max_new_tokens', 'settings.max_new_tokens cannot be set: give the request maxNewTokens instead.'],
    ['max_length', 'settings.max_length cannot be set: give the request maxNewTokens instead.'],
    ['input_ids', 'settings.input_ids cannot be set: give the request messages, prompt or promptIds instead.'],
    ['user_embeddings', 'settings.user_embeddings cannot be set: give the request user instead.'],
    ['past_key_values', 'settings.past_key_values cannot be set: give the request prefix instead.'],
  ])('the setting %s, which the request makes itself, says what to use instead', async (name, message) => {
    const settings = { [name]: 5 };
    expect(() => served.generate({ prompt, settings })).toThrow(new RangeError(message));
    await expect(model.generate({ prompt, settings }).text).rejects.toThrow(new RangeError(message));
    expect(await served.generate({ prompt, maxNewTokens: 2, settings: { [name]: null } }).tokenIds).not.toHaveLength(0);
  });

  test.each([
    [{ do_sample: true, temperature: -1 }, 'settings.temperature must be a number of at least 0, not -1.'],
    [{ do_sample: true, temperature: NaN }, 'settings.temperature must be a number of at least 0, not NaN.'],
    [{ do_sample: true, top_k: 0.5 }, 'settings.top_k must be a whole number, not 0.5.'],
    [{ do_sample: true, top_k: '5' }, 'settings.top_k must be a whole number, not "5".'],
    [{ repetition_penalty: 0 }, 'settings.repetition_penalty must be a number above 0, not 0.'],
  ])('the settings %j, by which the answer would be drawn otherwise than they say', (settings, message) => {
    expect(() => served.generate({ prompt, settings })).toThrow(new RangeError(message));
  });

  test('a prompt there must be', async () => {
    const missing = new RangeError(
      'The request has no prompt: give messages for the chat template, prompt (a text), or promptIds.',
    );
    expect(() => served.generate(untyped({ maxNewTokens: 3 }))).toThrow(missing);
    expect(() => served.scheduler().generate(untyped({ maxNewTokens: 3 }))).toThrow(missing);
    await expect(served.rank(untyped({ trie, top: 1 }))).rejects.toThrow(missing);
  });

  test('and something to rank, and a number of places', async () => {
    const candidates = untyped({ prompt, candidates: films, top: 2 });
    await expect(served.rank(candidates)).rejects.toThrow(
      /nothing to rank: give trie.*Only rank of a LanguageModel takes candidates/,
    );
    await expect(served.rank(untyped({ prompt, by: 'title', top: 2 }))).rejects.toThrow("by cannot be 'title': give trie");
    await expect(served.rank(untyped({ prompt, trie }))).rejects.toThrow(
      'top must be a whole number of at least 1, not undefined',
    );
    const retriever = () => titles.map(() => 0);
    const retrieved = (count: number) => byRetrieval({ retriever, candidates: count, ranker: byItemTokens(films.length) });
    for (const count of [2.5, 0, NaN])
      expect(() => retrieved(count)).toThrow(new RangeError(`candidates must be a whole number of at least 1, not ${count}.`));
    const halves = { prompt, top: 2, retrieve: { retriever, candidates: 2.5 } };
    await expect(model.rank(halves)).rejects.toThrow('candidates must be a whole number');
  });
});

describe('a ranking of candidates that means nothing says so', () => {
  test.each<[object, string | RegExp]>([
    [{ by: 'nonsense' }, "by cannot be 'nonsense': give 'title', 'item-tokens' or 'label-tokens'"],
    [{ by: 'retrieve' }, "by cannot be 'retrieve': give 'title', 'item-tokens' or 'label-tokens', and retrieve beside it"],
    [{ among: 'catalog' }, "among must be 'catalogue' or 'vocabulary', not 'catalog'."],
    [{ candidates: 'Heat' }, 'candidates must be a list of { id, text }, not a string.'],
    [{ candidates: null }, 'candidates must be a list of { id, text }, not null.'],
    [{ candidates: [{ id: 'a' }] }, 'candidates[0] has no text to rank it by: give { id, text }, or rank by item tokens.'],
    [{ candidates: [{ id: 'a', text: 'Heat' }, null] }, 'candidates[1] has no id: give { id, text }.'],
  ])('%j', async (change, message) => {
    await expect(model.rank(untyped({ prompt, candidates: films, top: 2, ...change }))).rejects.toThrow(RangeError);
    await expect(model.rank(untyped({ prompt, candidates: films, top: 2, ...change }))).rejects.toThrow(message);
  });

  test('nothing to rank by title', async () => {
    const none = new RangeError(
      'There is nothing to rank by title: give candidates, or make tokens for items with withItemTokens.',
    );
    await expect(filmModel.rank({ prompt, by: 'title', top: 2 })).rejects.toThrow(none);
  });

  test('ids to exclude that are one text, or no list', async () => {
    for (const exclude of ['film-0', 5])
      await expect(model.rank(untyped({ prompt, candidates: films, top: 2, exclude }))).rejects.toThrow(
        new RangeError(`exclude must be a list of ids, not a ${typeof exclude}.`),
      );
  });

  test('ids to exclude where a served model takes places', async () => {
    const excluding = { prompt, top: 2, exclude: [films[0].id] };
    const retrieve = { retriever: () => titles.map((_, i) => i) };
    for (const way of [{ by: 'item-tokens' }, { trie, retrieve }])
      await expect(served.rank(untyped({ ...excluding, ...way }))).rejects.toThrow(
        new RangeError(`exclude names places in the catalogue by their numbers, and '${films[0].id}' is none.`),
      );
    await expect(served.rank(untyped({ ...excluding, trie }))).rejects.toThrow(RangeError);
  });

  test('but what has a token needs no text, and exclude may name others', async () => {
    const candidates = untyped([{ id: films[1].id }, { id: films[2].id }]);
    const request = { prompt, candidates, by: 'item-tokens', top: 2, exclude: ['seen elsewhere', films[2].id] } as const;
    expect((await model.rank(request)).items.map(({ id }) => id)).toEqual([films[1].id]);
  });

  test('among, of a served model too', async () => {
    const refusal = new RangeError("among must be 'catalogue' or 'vocabulary', not 'catalog'.");
    await expect(served.rank(untyped({ prompt, trie, top: 2, among: 'catalog' }))).rejects.toThrow(refusal);
  });
});

describe('a model that cannot be computed with as is asked', () => {
  const wrong: [object, string][] = [
    [{ quantize: 5 }, 'quantize must be 8 or 4 or false, not 5.'],
    [{ quantize: true }, 'quantize must be 8 or 4 or false, not true.'],
    [{ accuracyLevel: 2, quantize: 8 }, 'accuracyLevel must be 0 or 4, not 2.'],
    [{ codes: 'foo' }, 'codes must be nibbles or bytes, not foo.'],
  ];

  test.each(wrong)('by %j is neither opened nor saved', async (options, message) => {
    await expect(model.serve(options)).rejects.toThrow(new RangeError(message));
    await expect(model.save(path.join(folder, 'model'), options)).rejects.toThrow(new RangeError(message));
    await expect(integerComputation(filmModel, { int8: true, ...options })).rejects.toThrow(new RangeError(message));
    await expect(LanguageModel.open(path.join(folder, 'model'))).rejects.toThrow('There is no such folder');
  });

  test('saved, is opened as it was saved, and by no name that nobody reads', async () => {
    const place = path.join(folder, 'saved-as-it-was');
    await filmModel.save(place);
    const asked = { quantize: 4, accuracyLevel: 0, codes: 'bytes', nThreads: 1, workers: 2 };
    for (const [name, value] of Object.entries(asked)) {
      const refusal = new RegExp(`^${name} is no option for opening a saved model, which is computed with as it was saved`);
      await expect(LanguageModel.open(place, { [name]: value })).rejects.toThrow(refusal);
      if (name !== 'workers') await expect(LanguageModel.openInWorkers(place, { [name]: value })).rejects.toThrow(refusal);
    }
    const known = { threads: 1, quantize: undefined, onProgress: () => undefined, signal: new AbortController().signal };
    await (await LanguageModel.open(place, known as object)).dispose();
  });

  test('by no threads is not opened anywhere', async () => {
    await model.save(path.join(folder, 'saved'));
    for (const threads of [0, -1, 1.5]) {
      const refusal = new RangeError(`threads must be a whole number of at least 1, not ${threads}.`);
      await expect(model.serve({ threads })).rejects.toThrow(refusal);
      await expect(LanguageModel.open(path.join(folder, 'saved'), { threads })).rejects.toThrow(refusal);
      await expect(LanguageModel.openInWorkers(path.join(folder, 'saved'), { threads })).rejects.toThrow(refusal);
      await expect(integerComputation(filmModel, { int8: true, threads })).rejects.toThrow(refusal);
    }
    const int8 = untyped({ int8: 0 });
    await expect(model.serve(int8)).rejects.toThrow('int8 must be true, false or { text }, not 0.');
    await expect(LanguageModel.open(path.join(folder, 'saved'), int8)).rejects.toThrow(RangeError);
  });
});

describe('a user who cannot be read', () => {
  /** What each way of asking for this user comes to. */
  const outcomes = (user: ReadableEmbedding) =>
    Promise.allSettled([
      served.generate({ prompt, user, maxNewTokens: 4 }).text,
      served.scheduler().generate({ prompt, user, maxNewTokens: 4 }).text,
      served.rank({ prompt, user, trie, top: 2 }),
      served.rank({ prompt, user, by: 'item-tokens', top: 2 }),
      served.userState(user),
      served.storedUserState(user),
    ]).then((all) => all.map((each) => (each.status === 'rejected' ? (each.reason as Error) : each)));

  test('holds NaN or Infinity, stored or not', async () => {
    const embedding = encoder.encode([1, 4]);
    const stored = await served.storedUserState(embedding);
    const broken = (user: ReadableEmbedding, value: number) => ({ ...user, data: (user.data as Float32Array).with(0, value) });
    for (const [user, message] of [
      [broken(embedding, NaN), 'The embedding holds NaN or Infinity; encode the user again.'],
      [broken(stored, NaN), 'The stored user state holds NaN or Infinity; encode the user again.'],
      [broken(stored, -Infinity), 'The stored user state holds NaN or Infinity; encode the user again.'],
    ] as const)
      for (const outcome of await outcomes(user)) expect(outcome).toEqual(new RangeError(message));
    const state = await served.userState(embedding);
    const overflown = { ...state, packed: state.packed.with(3, Infinity) };
    await expect(served.generate({ prompt, user: overflown }).text).rejects.toThrow('The user state holds NaN or Infinity');
  });

  test('overflows only within the model', async () => {
    const stored = await served.storedUserState(encoder.encode([1, 4]));
    const [generated, scheduled, byTitle, byTokens] = await outcomes({ ...stored, data: stored.data.map(() => 3e38) });
    for (const outcome of [generated, scheduled, byTitle, byTokens]) {
      expect(outcome).toBeInstanceOf(RangeError);
      expect(outcome).toMatchObject({ message: expect.stringContaining("The model's scores of the next token are not finite") });
    }
  });

  test('has numbers of another kind than they are said to be', async () => {
    const embedding = encoder.encode([1, 4]);
    const wrong: [object, string][] = [
      [{ dtype: 'float16' }, 'An embedding of dtype float16 has its numbers in a Uint16Array, and this one in a Float32Array.'],
      [
        { data: Array.from(embedding.data) },
        'An embedding of dtype float32 has its numbers in a Float32Array, and this one in a Array.',
      ],
      [{ data: undefined }, 'An embedding of dtype float32 has its numbers in a Float32Array, and this one in a Undefined.'],
      [{ dtype: 'float64' }, "An embedding's dtype is one of float32, float16, int8, not float64."],
    ];
    for (const [change, message] of wrong)
      for (const outcome of await outcomes(untyped({ ...embedding, ...change }))) expect(outcome).toEqual(new TypeError(message));
  });

  test('is a state of another size, or no numbers any more', async () => {
    const embedding = encoder.encode([1, 4]);
    const state = await served.userState(embedding);
    const stored = await served.storedUserState(embedding);
    const inShape = (shape: readonly number[], count: number) => `[${shape.join(', ')}] with ${count} numbers`;
    const expected = inShape(state.shape, state.packed.length);
    const wrong: [object, Error][] = [
      ...[
        { packed: state.packed.slice(3) },
        { shape: [1, 1] },
        { packed: Float32Array.from([...state.packed, ...state.packed]), shape: [2, ...state.shape.slice(1)] },
      ].map((change): [object, Error] => {
        const { packed, shape } = { ...state, ...change };
        const message = `The user state is ${inShape(shape, packed.length)}, but the model reads ${expected}. Make it again of the user's embedding.`;
        return [{ ...state, ...change }, new EncoderMismatchError(expected, inShape(shape, packed.length), message)];
      }),
      [
        JSON.parse(JSON.stringify(state)),
        new TypeError(
          "A user state has its numbers in a Float32Array (packed), and this one in a Object. Keep it as it was given, or make it again of the user's embedding.",
        ),
      ],
    ];
    for (const [user, refusal] of wrong) {
      const [generated, scheduled, byTitle, byTokens, , stored] = await outcomes(untyped(user));
      expect([generated, scheduled, byTitle, byTokens, stored]).toEqual(new Array(5).fill(refusal));
    }
    for (const shape of [
      [1, 1],
      [1, stored.data.length],
    ])
      for (const outcome of await outcomes(untyped({ ...stored, shape }))) {
        expect(outcome).toBeInstanceOf(EncoderMismatchError);
        expect(outcome).toMatchObject({ message: expect.stringContaining('Store it again.') });
      }
  });

  test('is nobody', async () => {
    for (const [nobody, named] of [
      [null, 'null'],
      ['user-42', 'a string'],
      [{ status: 'missing' }, 'an object that names no encoder'],
    ] as const)
      for (const outcome of await outcomes(untyped(nobody as object))) {
        expect(outcome).toBeInstanceOf(TypeError);
        expect(outcome).toMatchObject({ message: expect.stringContaining(`and not ${named}. Give what the store has found`) });
      }
    await expect(served.userState(untyped(await served.userState(encoder.encode([1, 4]))))).rejects.toThrow(
      'a user state already',
    );
  });
});
