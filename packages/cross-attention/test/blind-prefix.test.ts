import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { AutoModelForCausalLM, Tensor } from '@huggingface/transformers';
import * as ort from 'onnxruntime-node';
import { textRow, withPlaceholders } from '../src/adaptation/text-rows.js';
import { inferenceModel } from '../src/decoder/inference-graph.js';
import { AdaptationError, PrefixError } from '../src/errors.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { userAddition } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const films = ['Heat (1995)', 'Heat and Dust (1983)', 'Toy Story (1995)', 'Toy Story 2 (1999)', 'Jumanji (1995)', 'The Harbour'];
const tokenizer = trainByteLevelBpe(films, { vocabularySize: 300 });
const base = LanguageModel.create(
  { width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 64, context: 96 },
  tokenizer,
  1,
);
const encoder = ToyEncoder.create(2);
const messages = [{ role: 'user', content: 'Toy Story and Heat: what next?' }] as const;
const promptIds = base.tokenizer.chat([...messages]);
const readingTokens = 3;
const options = { strategy: 'full', steps: 120, batchSize: 18, seed: 5, learningRate: 1e-2, threads: 1 } as const;
const examples = Array.from({ length: 36 }, (_, i) => {
  const history: ToyHistory = [i % 6, Math.floor(i / 6)];
  return base.example({ messages, answer: films[history[1]], history });
});

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'blind-prefix-'))));
afterAll(async () => rm(folder, { recursive: true }));

describe.each<[string, Integration]>([
  ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.5 })],
  ['soft prompt', softPrompt()],
  ['both together', combined([gatedCrossAttention({ every: 1, gate: 0.5 }), softPrompt()])],
])('a model whose prompts begin blindly, by %s', (name, integration) => {
  let model: LanguageModel;
  let adapted: ToyEncoder;
  let served: ServedModel;
  const place = () => path.join(folder, name.replaceAll(' ', '-'));
  beforeAll(async () => {
    const run = base.withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens } }).adapt(examples, options);
    ({ model, encoder: adapted } = await run.result);
    await model.save(place());
    served = await LanguageModel.open(place(), { threads: 1 });
  });
  afterAll(async () => served.dispose());

  test('says the same from the prefix that all users share as from one pass over the whole prompt', async () => {
    const prefix = await served.prefix({ messages });
    expect(prefix.ids).toEqual(promptIds.slice(0, -readingTokens));
    expect(prefix.bytes).toBe(2 * 2 * 2 * 16 * prefix.ids.length * 4);
    const before = structuredClone(prefix.keysAndValues);
    for (const last of [0, 2, 3, 5]) {
      const user = adapted.encode([1, last]);
      const whole = served.generate({ messages, user, maxNewTokens: 24 });
      const behind = served.generate({ messages, user, prefix, maxNewTokens: 24 });
      expect(await behind.text).toBe(films[last]);
      expect(await behind.tokenIds).toEqual(await whole.tokenIds);
      expect((await behind.usage).promptTokens).toBe((await whole.usage).promptTokens);
      expect((await behind.usage).flops).toBeLessThan((await whole.usage).flops);
    }
    expect(prefix.keysAndValues).toEqual(before);
  });

  test('and as plain transformers.js over the saved folder', async () => {
    const plain = await AutoModelForCausalLM.from_pretrained(place(), { local_files_only: true });
    plain.forward_params.push('user_embeddings', 'blind_length');
    const prefix = await served.prefix({ messages });
    for (const last of [1, 4]) {
      const user = await served.userState(adapted.encode([0, last]));
      const ids = served.promptIds({ messages }, true);
      const output = (await plain.generate({
        input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
        attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
        user_embeddings: new Tensor('float32', user.packed, [...user.shape]),
        blind_length: new Tensor('int64', [BigInt(prefix.ids.length)], []),
        max_new_tokens: 24,
      } as Parameters<typeof plain.generate>[0])) as Tensor;
      const answer = Array.from(output.data as BigInt64Array, Number).slice(ids.length);
      expect(await served.generate({ messages, user, prefix, maxNewTokens: 24 }).tokenIds).toEqual(answer);
    }
    await plain.dispose();
  });

  test('the keys and values of blind tokens are the same whoever asks, and those behind them are not', async () => {
    const { weights, shape } = model.user!;
    const bytes = inferenceModel(
      model.config,
      new Map([...model.weights, ...weights]),
      userAddition(integration, model.config, shape, { readingTokens }),
    );
    const session = await ort.InferenceSession.create(bytes);
    const ids = served.promptIds({ messages }, true);
    const blind = promptIds.length - readingTokens;
    const keysOf = async (history: ToyHistory) => {
      const { packed, shape: packedShape } = await served.userState(adapted.encode(history));
      const empty = new ort.Tensor('float32', new Float32Array(0), [1, 2, 0, 16]);
      const outputs = await session.run({
        input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
        attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
        num_logits_to_keep: new ort.Tensor('int64', [1n], []),
        ...(session.inputNames.includes('blind_length') ? { blind_length: new ort.Tensor('int64', [BigInt(blind)], []) } : {}),
        user_embeddings: new ort.Tensor('float32', packed, [...packedShape]),
        ...Object.fromEntries(session.inputNames.filter((each) => each.startsWith('past')).map((each) => [each, empty])),
      });
      return outputs['present.1.key'].data as Float32Array;
    };
    const one = await keysOf([0, 1]);
    const other = await keysOf([4, 5]);
    const prefix = await served.prefix({ messages });
    const shared = prefix.keysAndValues.get('past_key_values.1.key')!;
    for (let head = 0; head < 2; head++) {
      const of = (all: Float32Array, length: number, from: number, to: number) =>
        all.subarray((head * length + from) * 16, (head * length + to) * 16);
      expect(of(one, ids.length, 0, blind)).toEqual(of(other, ids.length, 0, blind));
      expect(of(one, ids.length, blind, ids.length)).not.toEqual(of(other, ids.length, blind, ids.length));
      of(shared, blind, 0, blind).forEach((value, i) => expect(value).toBeCloseTo(of(one, ids.length, 0, blind)[i], 4));
    }
    await session.release();
  });

  test('the training graph and the served graphs agree, behind a prefix too: a title has the probability that its loss says', async () => {
    // Of the same prompt, one token more or less is blind.
    for (const blindTokens of [undefined, 0, 5]) {
      const example = { ...examples[8], ...(blindTokens === undefined ? {} : { blindTokens }) };
      const run = base
        .withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens } })
        .adapt(examples, { ...options, steps: 7, validation: { examples: [example], everySteps: 7 } });
      const { model: early, encoder: trained, record } = await run.result;
      const one = await early.serve({ threads: 1 });
      const user = trained.encode(example.history!);
      const request = { messages, user, trie: early.trie([films[example.history![1]]]), among: 'vocabulary', top: 1 } as const;
      const length = example.answerIds.length;
      const { scores } = await one.rank({ ...request, blindTokens });
      expect(-scores[0] / length).toBeCloseTo(record.validation[0].loss, 4);
      if (blindTokens !== 0) {
        const prefix = await one.prefix({ messages, blindTokens });
        const behind = await one.rank({ ...request, blindTokens, prefix });
        expect(-behind.scores[0] / length).toBeCloseTo(record.validation[0].loss, 4);
      }
      await one.dispose();
    }
  });

  test('ranks the same behind a prefix', async () => {
    const trie = model.trie(films);
    const user = await served.userState(adapted.encode([2, 3]));
    const prefix = await served.prefix({ messages });
    const whole = await served.rank({ messages, user, trie, top: 6 });
    const behind = await served.rank({ messages, user, trie, top: 6, prefix });
    expect([...behind.items]).toEqual([...whole.items]);
    expect(behind.items[0]).toBe(3);
    behind.scores.forEach((score, i) => expect(score).toBeCloseTo(whole.scores[i], 4));
    expect(behind.flops).toBeLessThan(whole.flops);
  });

  test('ranks candidates by as many blind tokens as are asked for, and refuses a foreign prefix there too', async () => {
    const loaded = await LanguageModel.load(place());
    const user = adapted.encode([2, 3]);
    const candidates = films.map((text) => ({ id: text, text }));
    const scoresOf = async (blindTokens?: number) => {
      const { items } = await loaded.rank({ messages, user, candidates, top: 6, blindTokens });
      const expected = await served.rank({ messages, user, trie: model.trie(films), top: 6, blindTokens });
      items.forEach(({ score }, i) => expect(score).toBeCloseTo(expected.scores[i], 4));
      return items.map(({ score }) => score);
    };
    expect(await scoresOf(5)).not.toEqual(await scoresOf());
    const prefix = await served.prefix({ messages });
    await expect(loaded.rank({ messages, user, candidates, top: 6, prefix })).rejects.toThrow(PrefixError);
    await loaded.dispose();
  });

  test('a prefix serves requests without a user, and shorter ones serve too', async () => {
    const prefix = await served.prefix({ messages });
    const shorter = await served.prefix({ messages, blindTokens: 4 });
    for (const user of [undefined, adapted.encode([3, 2])]) {
      const expected = await served.generate({ messages, user, maxNewTokens: 8 }).tokenIds;
      for (const each of [prefix, shorter])
        expect(await served.generate({ messages, user, prefix: each, maxNewTokens: 8 }).tokenIds).toEqual(expected);
    }
  });

  test('refuses a prefix of another model or prompt, and more blind tokens than it was adapted to', async () => {
    const prefix = await served.prefix({ messages });
    const user = adapted.encode([0, 1]);
    const own = await model.serve({ threads: 1 });
    expect(() => own.generate({ messages, user, prefix })).toThrow('computed by another model');
    await own.dispose();
    expect(() => served.generate({ prompt: 'Heat and Dust: what next? And then?', user, prefix })).toThrow(PrefixError);
    const longer = await served.prefix({ messages, blindTokens: promptIds.length - 1 });
    await expect(served.rank({ messages, user, prefix: longer, trie: model.trie(films), top: 1 })).rejects.toThrow(
      'the others read the user',
    );
    await expect(served.prefix({ messages, blindTokens: promptIds.length })).rejects.toThrow('can be blind');
    await expect(served.prefix({ promptIds: [5, 6] })).rejects.toThrow('would be empty');
  });

  test('is kept in the saved folder, and trains on as it was', async () => {
    const again = await LanguageModel.load(place());
    expect(again.user!.blindPrefix).toEqual({ readingTokens });
    const run = again
      .withUserEmbeddings({ encoder: adapted, integration, blindPrefix: { readingTokens } })
      .adapt(examples, { ...options, steps: 1, learningRate: 1e-5 });
    expect((await run.result).record.curve[0].loss).toBeLessThan(0.5);
  });

  test('stays with the weights that were adapted to it, unless another one is given or they go', () => {
    const again = (more: object) => model.withUserEmbeddings({ encoder: adapted, integration, ...more }).model.user!.blindPrefix;
    expect(again({})).toEqual({ readingTokens });
    expect(again({ blindPrefix: { readingTokens: 5 } })).toEqual({ readingTokens: 5 });
    expect(again({ blindPrefix: {} })).toEqual({});
    const afresh = model.withoutUserEmbeddings().withUserEmbeddings({ encoder: adapted, integration });
    expect(afresh.model.user!.blindPrefix).toBeUndefined();
  });
});

test('a model that reads everywhere has no blind prefix', async () => {
  const { model } = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1 }) });
  const served = await model.serve({ threads: 1 });
  await expect(served.prefix({ messages, blindTokens: 4 })).rejects.toThrow('give withUserEmbeddings a blindPrefix');
  expect(() => served.generate({ messages, blindTokens: 4, user: encoder.encode([0, 1]) })).toThrow(PrefixError);
  await served.dispose();
});

test('a model makes prefixes for itself too, and answers and ranks behind them as without', async () => {
  const { model } = base.withUserEmbeddings({
    encoder,
    integration: gatedCrossAttention({ every: 1 }),
    blindPrefix: { readingTokens },
  });
  const user = encoder.encode([0, 1]);
  const prefix = await model.prefix({ messages });
  const request = { messages, user };
  expect(await model.generate({ ...request, prefix, maxNewTokens: 4 }).tokenIds).toEqual(
    await model.generate({ ...request, maxNewTokens: 4 }).tokenIds,
  );
  const candidates = ['Heat', 'Alien'].map((text) => ({ id: text, text }));
  const [behind, without] = await Promise.all([
    model.rank({ ...request, prefix, candidates, top: 2 }),
    model.rank({ ...request, candidates, top: 2 }),
  ]);
  expect(behind.items.map(({ id }) => id)).toEqual(without.items.map(({ id }) => id));
  await model.dispose();
});

test('a model that reads no users keeps any beginning of a prompt', async () => {
  const served = await base.serve({ threads: 1 });
  const prefix = await served.prefix({ messages, blindTokens: promptIds.length - 1 });
  const whole = await served.generate({ messages, maxNewTokens: 8 }).tokenIds;
  expect(await served.generate({ messages, prefix, maxNewTokens: 8 }).tokenIds).toEqual(whole);
  await served.dispose();
});

test('a prefix that lost some of its keys and values is refused, whoever reads it', async () => {
  const served = await base.serve({ threads: 1 });
  const prefix = await served.prefix({ messages, blindTokens: 5 });
  const { keysAndValues } = prefix;
  const [[name, values]] = keysAndValues;
  // Two key/value heads of 16, and five tokens.
  const rest = 'of 160 numbers (Float32Array). Keep a prefix as it was given, or compute it again.';
  const wrong: [unknown, string][] = [
    [new Map(), `holds no ${name} ${rest}`],
    [JSON.parse(JSON.stringify(keysAndValues)), `holds no ${name} ${rest}`],
    [undefined, `holds no ${name} ${rest}`],
    [new Map(keysAndValues).set(name, values.slice(0, 10)), `holds no ${name} ${rest}`],
    [new Map(keysAndValues).set(name, Array.from(values) as never), `holds no ${name} ${rest}`],
  ];
  const scheduler = served.scheduler();
  for (const [kept, message] of wrong) {
    const request = { messages, prefix: { ...prefix, keysAndValues: kept as never }, maxNewTokens: 2 };
    const refusal = new PrefixError(message);
    expect(() => served.generate(request)).toThrow(refusal);
    expect(() => scheduler.generate(request)).toThrow(refusal);
    await expect(served.rank({ ...request, trie: base.trie(films), top: 1 })).rejects.toThrow(refusal);
  }
  expect(await served.generate({ messages, prefix: structuredClone(prefix), maxNewTokens: 2 }).tokenIds).toHaveLength(2);
  await served.dispose();
});

test('placeholders stand behind the blind tokens', () => {
  expect(withPlaceholders([7, 8, 9], { count: 2, firstId: 24, beginToken: 7 }, 2)).toEqual([7, 8, 24, 25, 9]);
  const model = {
    vocabularySize: 24,
    contextLength: 16,
    placeholders: { count: 1, firstId: 24 },
    blindPrefix: { readingTokens: 2 },
  };
  const row = textRow({ history: 0, promptIds: [1, 2, 3], answerIds: [4, 0] }, model, 'example');
  expect([...row.input]).toEqual([1, 24, 2, 3, 4]);
  expect(row.blindTokens).toBe(1);
  const own = textRow({ history: 0, promptIds: [1, 2, 3], answerIds: [4, 0], blindTokens: 2 }, model, 'example');
  expect([...own.input]).toEqual([1, 2, 24, 3, 4]);
});

test('blind tokens that cannot be are named with their example', () => {
  const model = { vocabularySize: 24, contextLength: 16, placeholders: { count: 0, firstId: 24 } };
  const row = (blindTokens: number, blindPrefix?: object) => () =>
    textRow({ promptIds: [1, 2, 3], answerIds: [4], blindTokens }, { ...model, blindPrefix }, 'example 7');
  expect(row(2)).toThrow(AdaptationError);
  expect(row(3, {})).toThrow('example 7: has 3 blind tokens; of a prompt of 3 tokens 0 to 2 can be blind');
  expect(row(0.5, {})).toThrow(AdaptationError);
  expect(() => base.withUserEmbeddings({ encoder, integration: softPrompt(), blindPrefix: { readingTokens: 0 } })).toThrow(
    'readingTokens must be a whole number of at least 1',
  );
});
