import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { AutoModelForCausalLM, AutoTokenizer, Tensor } from '@huggingface/transformers';
import type { PreTrainedTokenizer } from '@huggingface/transformers';
import * as ort from 'onnxruntime-node';
import { DoesNotFitError, EncoderMismatchError } from '../src/errors.js';
import { ModelFolderError } from '../src/folder/model-folder-error.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { userAddition } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { inferenceModel } from '../src/decoder/inference-graph.js';
import { LanguageModel } from '../src/language-model.js';
import { PrefixTrie } from '../src/ranking/prefix-trie.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(fileURLToPath(new URL('.', import.meta.url)), '../../../../shared');
const hasModels = existsSync(path.join(shared, 'models/TinyStories-656K'));
if (!hasModels) console.warn(`skipped: no reference models under ${shared}; set USER_LLM_SHARED`);

const films = [
  'Heat (1995)',
  'Heat and Dust (1983)',
  'Toy Story (1995)',
  'Toy Story 2 (1999)',
  'Jumanji (1995)',
  'The Quiet Harbour (2001)',
];
const tokenizer = trainByteLevelBpe(films, { vocabularySize: 300 });
const sizes = { width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 64, context: 48 };
const base = LanguageModel.create(sizes, tokenizer, 1);
const messages = [{ role: 'user', content: 'What next?' }] as const;
const encoder = ToyEncoder.create(2);
const options = { strategy: 'full', steps: 120, batchSize: 18, seed: 5, learningRate: 1e-2, threads: 1 } as const;

/** A user's last film is the one to be named. */
const examples = Array.from({ length: 36 }, (_, i) => {
  const history: ToyHistory = [i % 6, Math.floor(i / 6)];
  return base.example({ messages, answer: films[history[1]], history });
});

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'language-model-'))));
afterAll(async () => rm(folder, { recursive: true }));

/** A prompt as the README makes it of a saved folder, for plain transformers.js. */
function promptFor(words: PreTrainedTokenizer, { placeholders = '', placeholdersBehind = '' }: Record<string, string>) {
  const text = words.apply_chat_template([...messages], { tokenize: false, add_generation_prompt: true }) as string;
  const begin = text.startsWith(placeholdersBehind) ? placeholdersBehind : '';
  return words(begin + placeholders + text.slice(begin.length), { add_special_tokens: false }) as { input_ids: Tensor };
}

/** A trie whose one path is the given token. */
const oneToken = (token: number) => PrefixTrie.build([[]], token);

describe('a fresh model is its base', () => {
  async function logits(model: Uint8Array, feeds: Record<string, ort.Tensor>): Promise<Float32Array> {
    const session = await ort.InferenceSession.create(model);
    const ids = [5, 9, 200, 17, 33];
    const empty = () => new ort.Tensor('float32', new Float32Array(0), [1, 2, 0, 16]);
    const outputs = await session.run({
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(0n), []),
      ...Object.fromEntries(session.inputNames.filter((name) => name.startsWith('past')).map((name) => [name, empty()])),
      ...feeds,
    });
    await session.release();
    return outputs.logits.data as Float32Array;
  }

  test('bit for bit with closed gates, and with open ones where there is no user', async () => {
    const plain = await logits(inferenceModel(base.config, base.weights), {});
    for (const gate of [0, 0.5]) {
      const { model } = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1, gate }) });
      const { integration, shape, weights } = model.user!;
      const bytes = inferenceModel(
        model.config,
        new Map([...model.weights, ...weights]),
        userAddition(integration, model.config, shape),
      );
      const packed = [1, ...integration.packedShape(model.config, shape)];
      const count = packed.reduce((a, b) => a * b, 1);
      const user = Float32Array.from({ length: count }, (_, i) => Math.sin(i));
      const withUser = await logits(bytes, { user_embeddings: new ort.Tensor('float32', user, packed) });
      const without = await logits(bytes, { user_embeddings: new ort.Tensor('float32', new Float32Array(count), packed) });
      expect(without).toEqual(plain);
      if (gate === 0) expect(withUser).toEqual(plain);
      else expect(withUser).not.toEqual(plain);
    }
  });
});

describe.each<[string, Integration]>([
  ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.5 })],
  ['soft prompt', softPrompt()],
  ['both together', combined([softPrompt(), gatedCrossAttention({ every: 1, gate: 0.5 })])],
])('a model adapted by %s', (name, integration) => {
  let model: LanguageModel;
  let adapted: ToyEncoder;
  let served: ServedModel;
  const place = () => path.join(folder, name.replaceAll(' ', '-'));
  beforeAll(async () => {
    const run = base.withUserEmbeddings({ encoder, integration }).adapt(examples, options);
    ({ model, encoder: adapted } = await run.result);
    await model.save(place());
    served = await LanguageModel.open(place(), { threads: 1 });
  });
  afterAll(async () => served.dispose());

  test('names each user their film, from the saved folder', async () => {
    for (const last of [0, 2, 5]) {
      const user = await served.userState(adapted.encode([1, last]));
      expect(user.packed.length).toBe(integration.packedShape(model.config, model.user!.shape).reduce((a, b) => a * b, 1));
      const answer = served.generate({ messages, user, maxNewTokens: 28 });
      const pieces: string[] = [];
      for await (const piece of answer.textStream) pieces.push(piece);
      expect(pieces.join('')).toBe(films[last]);
      expect(await answer.text).toBe(films[last]);
      const usage = await answer.usage;
      expect(usage.answerTokens).toBe(base.tokenizer.encode(films[last]).length + 1);
      expect(usage.flops).toBeGreaterThan(0);
      const { firstTokenMs, totalMs } = await answer.timings;
      expect(firstTokenMs).toBeLessThanOrEqual(totalMs);
    }
  });

  test('the training graph and the served graphs agree: a title has the probability that its loss says', async () => {
    const validated = base.withUserEmbeddings({ encoder, integration });
    const example = examples[8];
    const run = validated.adapt(examples, { ...options, steps: 7, validation: { examples: [example], everySteps: 7 } });
    const { model, encoder: trained, record } = await run.result;
    const one = await model.serve({ threads: 1 });
    const title = films[example.history![1]];
    const { scores, promptTokens } = await one.rank({
      messages,
      user: trained.encode(example.history!),
      trie: model.trie([title]),
      among: 'vocabulary',
      top: 1,
    });
    expect(-scores[0] / example.answerIds.length).toBeCloseTo(record.validation[0].loss, 4);
    expect(promptTokens).toBe(example.promptIds.length + integration.placeholders(model.user!.shape));
    await one.dispose();
  });

  test('ranks a catalogue: a wide beam is exact, and exclusion holds', async () => {
    const trie = model.trie(films);
    const user = adapted.encode([0, 3]);
    const beam = await served.rank({ messages, user, trie, top: 6, width: 50 });
    const exact = await served.rank({ messages, user, trie, top: 6, exact: true });
    expect([...beam.items]).toEqual([...exact.items]);
    beam.scores.forEach((score, i) => expect(score).toBeCloseTo(exact.scores[i], 4));
    expect(beam.items[0]).toBe(3);
    const rest = await served.rank({ messages, user, trie, top: 6, exclude: [3] });
    expect([...rest.items]).toEqual([...beam.items].filter((item) => item !== 3));
    expect(beam.flops).toBeGreaterThan(0);
    const ranked = await model.rank({
      messages,
      user,
      candidates: films.map((text, i) => ({ id: `film ${i}`, text })),
      top: 2,
      exclude: ['film 3'],
    });
    expect(ranked.items.map(({ id }) => id)).toEqual([...rest.items].slice(0, 2).map((item) => `film ${item}`));
    await model.dispose();
  });

  test('a title scores in a beam what it scores alone, after a long prompt too', async () => {
    const user = await served.userState(adapted.encode([2, 4]));
    const trie = model.trie(films);
    for (const prompt of ['Heat', 'Toy Story 2 (1999) Jumanji']) {
      const { items, scores, steps } = await served.rank({ prompt, user, trie, top: 6, among: 'vocabulary' });
      expect(steps).toBeGreaterThan(5);
      for (const [i, item] of items.entries()) {
        const alone = await served.rank({ prompt, user, trie: model.trie([films[item]]), top: 1, among: 'vocabulary' });
        expect(alone.scores[0]).toBeCloseTo(scores[i], 4);
        // And by the definition: the prompt and the title up to each token, run from the start.
        let whole = 0;
        const title = [...model.tokenizer.encode(films[item]), model.tokenizer.eos];
        for (let at = 0; at < title.length; at++) {
          const promptIds = [...model.tokenizer.encode(prompt), ...title.slice(0, at)];
          const rest = await served.rank({
            promptIds,
            user,
            trie: oneToken(title[at]),
            top: 1,
            among: 'vocabulary',
          });
          whole += rest.scores[0];
        }
        expect(whole).toBeCloseTo(scores[i], 3);
      }
    }
  });

  test('refuses the embedding of another encoder, and one of another shape', async () => {
    const old = encoder.encode([0, 1]);
    await expect(served.userState(old)).rejects.toThrow(EncoderMismatchError);
    await expect(served.generate({ messages, user: old }).text).rejects.toMatchObject({
      expected: adapted.manifest.hash,
      actual: encoder.manifest.hash,
    });
    await expect(served.userState({ ...adapted.encode([0, 1]), shape: [1, 16] })).rejects.toThrow('reads [2, 8]');
    const foreign = { ...(await served.userState(adapted.encode([0, 1]))), reader: 'another' };
    await expect(served.rank({ messages, user: foreign, trie: model.trie(films), top: 1 })).rejects.toThrow(EncoderMismatchError);
  });

  test('a prompt that does not fit is refused before anything runs', async () => {
    const long = { prompt: 'Heat '.repeat(50), user: adapted.encode([0, 1]) };
    expect(() => served.generate(long)).toThrow(DoesNotFitError);
    await expect(served.rank({ ...long, trie: model.trie(films), top: 1 })).rejects.toMatchObject({ context: 48 });
    expect(() => served.generate({ messages, maxNewTokens: 48 })).toThrow('do not fit into the model');
  });

  test('a signal stops between two tokens', async () => {
    const stop = new AbortController();
    const answer = served.generate({ messages, user: adapted.encode([1, 5]), signal: stop.signal });
    const pieces: string[] = [];
    await expect(
      (async () => {
        for await (const piece of answer.textStream) {
          pieces.push(piece);
          stop.abort(new Error('enough'));
        }
      })(),
    ).rejects.toThrow('enough');
    expect(pieces.join('').length).toBeLessThan(films[5].length);
    await expect(answer.text).rejects.toThrow('enough');
    await expect(served.rank({ messages, trie: model.trie(films), top: 1, signal: stop.signal })).rejects.toThrow('enough');
  });

  test('loads again as it was, and trains on', async () => {
    const again = await LanguageModel.load(place());
    expect(again.weights).toEqual(model.weights);
    expect(again.user!.weights).toEqual(model.user!.weights);
    expect(again.user!.encoder).toBe(adapted.manifest.hash);
    expect(again.tokenizer.files).toEqual(base.tokenizer.files);
    const run = again
      .withUserEmbeddings({ encoder: adapted, integration })
      .adapt(examples, { ...options, steps: 2, learningRate: 1e-4 });
    expect((await run.result).record.curve[0].loss).toBeLessThan(0.5);
    await again.save(place(), { trainable: false });
    await expect(LanguageModel.load(place())).rejects.toThrow(ModelFolderError);
    expect(await readdir(path.join(place(), 'onnx'))).toEqual(['model.onnx', 'user.onnx']);
    const small = await LanguageModel.open(place(), { threads: 1 });
    expect(await small.generate({ messages, user: adapted.encode([1, 2]), maxNewTokens: 20 }).text).toBe(films[2]);
    await small.dispose();
    await expect(small.userState(adapted.encode([1, 2]))).rejects.toThrow('disposed');
  });

  test('is greedy unless a request says otherwise, whatever generation_config.json says to others', async () => {
    const file = path.join(place(), 'generation_config.json');
    const kept = await readFile(file, 'utf8');
    const user = adapted.encode([1, 4]);
    const expected = await served.generate({ messages, user, maxNewTokens: 8 }).tokenIds;
    await writeFile(file, JSON.stringify({ ...JSON.parse(kept), repetition_penalty: 9, suppress_tokens: [expected[0]] }));
    const changed = await LanguageModel.open(place(), { threads: 1 });
    expect(await changed.generate({ messages, user, maxNewTokens: 8 }).tokenIds).toEqual(expected);
    expect(await changed.scheduler().generate({ messages, user, maxNewTokens: 8 }).tokenIds).toEqual(expected);
    await changed.dispose();
    await writeFile(file, kept);
  });

  test('opens in plain transformers.js', async () => {
    const words = await AutoTokenizer.from_pretrained(place(), { local_files_only: true });
    const plain = await AutoModelForCausalLM.from_pretrained(place(), { local_files_only: true });
    plain.forward_params.push('user_embeddings');
    const manifest = JSON.parse(await readFile(path.join(place(), 'user_llm.json'), 'utf8'));
    const inputs = promptFor(words, manifest.adapter);
    const user = await served.userState(adapted.encode([1, 4]));
    const user_embeddings = new Tensor('float32', user.packed, [...user.shape]);
    const output = (await plain.generate({ ...inputs, user_embeddings, max_new_tokens: 20 })) as Tensor;
    const answer = output.slice(null, [inputs.input_ids.dims[1], output.dims[1]]);
    expect(words.batch_decode(answer, { skip_special_tokens: true })).toEqual([films[4]]);
    await plain.dispose();
  });
});

test('a soft prompt stands behind the token that a template begins with, here and in plain transformers.js', async () => {
  const config = tokenizer['tokenizer_config.json'];
  const template = `{{ bos_token }}${String(config.chat_template)}`;
  const files = { ...tokenizer, 'tokenizer_config.json': { ...config, chat_template: template } };
  const { model } = LanguageModel.create(sizes, files, 1).withUserEmbeddings({ encoder, integration: softPrompt() });
  const place = path.join(folder, 'begun');
  await model.save(place, { trainable: false });
  const served = await LanguageModel.open(place, { threads: 1 });
  const user = await served.userState({
    ...encoder.encode([1, 4]),
    data: encoder.encode([1, 4]).data.map((value) => 20 * value),
  });
  const { adapter } = JSON.parse(await readFile(path.join(place, 'user_llm.json'), 'utf8'));
  const words = await AutoTokenizer.from_pretrained(place, { local_files_only: true });
  const inputs = promptFor(words, adapter);
  const ids = Array.from(inputs.input_ids.data as BigInt64Array, Number);
  const { bos } = model.tokenizer;
  expect(ids.slice(0, 3)).toEqual([bos, model.config.vocabularySize, model.config.vocabularySize + 1]);
  expect(ids).toEqual(served.promptIds({ messages }, true));
  const plain = await AutoModelForCausalLM.from_pretrained(place, { local_files_only: true });
  plain.forward_params.push('user_embeddings');
  const user_embeddings = new Tensor('float32', user.packed, [...user.shape]);
  const output = (await plain.generate({ ...inputs, user_embeddings, max_new_tokens: 12 })) as Tensor;
  const answer = Array.from(output.data as BigInt64Array, Number).slice(ids.length);
  expect(answer).toEqual(await served.generate({ messages, user, maxNewTokens: 12 }).tokenIds);
  await plain.dispose();
  await served.dispose();
});

(hasModels ? describe : describe.skip)('TinyStories-656K through a saved folder', () => {
  interface Case {
    ids: number[];
    greedy_ids: number[];
    greedy_text: string;
  }
  let cases: Case[];
  const place = () => path.join(folder, 'tiny-stories');
  beforeAll(async () => {
    cases = JSON.parse(await readFile(path.join(shared, 'fixtures/llm/TinyStories-656K.json'), 'utf8')).cases;
    const stories = await LanguageModel.load(path.join(shared, 'models/TinyStories-656K'));
    await stories.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 2 }) }).model.save(place());
  });

  test('answers its greedy texts, the same for two users while the gates are closed', async () => {
    const served = await LanguageModel.open(place(), { threads: 1 });
    for (const { ids, greedy_ids } of cases) {
      for (const user of [undefined, encoder.encode([0, 1]), encoder.encode([4, 5])]) {
        const answer = served.generate({ promptIds: ids, user, maxNewTokens: 32 });
        expect(await answer.tokenIds).toEqual(greedy_ids);
      }
    }
    await served.dispose();
  });

  test('and so it does in plain transformers.js', async () => {
    const served = await LanguageModel.open(place(), { threads: 1 });
    const plain = await AutoModelForCausalLM.from_pretrained(place(), { local_files_only: true });
    plain.forward_params.push('user_embeddings');
    const { packed, shape } = await served.userState(encoder.encode([0, 1]));
    for (const { ids, greedy_ids } of cases) {
      const output = (await plain.generate({
        input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
        attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
        user_embeddings: new Tensor('float32', packed, [...shape]),
        max_new_tokens: 32,
      } as Parameters<typeof plain.generate>[0])) as Tensor;
      expect(Array.from(output.data as BigInt64Array, Number).slice(ids.length)).toEqual(greedy_ids);
    }
    await plain.dispose();
    await served.dispose();
  });

  test('a prompt beyond its 512 tokens does not fit', async () => {
    const stories = await LanguageModel.load(path.join(shared, 'models/TinyStories-656K'));
    await expect(
      stories.generate({ promptIds: Array.from({ length: 500 }, () => 80), maxNewTokens: 32 }).text,
    ).rejects.toMatchObject({ tokens: 532, context: 512 });
    await stories.dispose();
  });
});
