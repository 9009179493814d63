import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { createDecoder } from '../src/decoder/decoder.js';
import { branchingModel, inferenceModel } from '../src/decoder/inference-graph.js';
import type { DecoderConfig } from '../src/folder/decoder-config.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { initialIntegrationWeights, userAddition } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { beamSearch, exactRanking } from '../src/ranking/beam-search.js';
import { PrefixTrie } from '../src/ranking/prefix-trie.js';
import type { TokenScorer } from '../src/ranking/token-scorer.js';
import { BranchingScorer } from '../src/serving/branching-scorer.js';

const vocabulary = 40;
const end = 0;
const shape = { userTokens: 3, userWidth: 8 };

interface Texts {
  readonly texts: readonly (readonly number[])[];
  readonly logits: Float32Array;
}

/** The definition: every text from its first token on, in rows of their own, nothing kept from one step to the next. */
class WholeTexts implements TokenScorer<Texts> {
  constructor(
    private readonly session: ort.InferenceSession,
    private readonly config: DecoderConfig,
    private readonly prompt: readonly number[],
    private readonly user: ort.Tensor | undefined,
  ) {}

  start() {
    return this.run([[]]);
  }

  step({ texts }: Texts, parents: Int32Array, tokens: Int32Array) {
    return this.run(Array.from(tokens, (token, i) => [...texts[parents[i]], token]));
  }

  logits({ logits }: Texts) {
    return { data: logits, vocabulary };
  }

  private async run(texts: Texts['texts']): Promise<Texts> {
    const ids = texts.flatMap((text) => [...this.prompt, ...text]);
    const dims = [texts.length, ids.length / texts.length];
    const none = new ort.Tensor('float32', new Float32Array(0), [
      texts.length,
      this.config.keyValueHeads,
      0,
      this.config.headSize,
    ]);
    const outputs = await this.session.run({
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), dims),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(1n), []),
      ...Object.fromEntries(this.session.inputNames.filter((name) => name.startsWith('past')).map((name) => [name, none])),
      ...(this.user === undefined ? {} : { user_embeddings: this.user }),
    });
    return { texts, logits: outputs.logits.data as Float32Array };
  }
}

async function open(changes: Partial<DecoderConfig>, keyValueHeads: number, integration: Integration | undefined) {
  const decoder = createDecoder(
    { vocabularySize: vocabulary, width: 64, layers: 2, heads: 4, keyValueHeads, intermediate: 48, context: 1024 },
    7,
  );
  const config = { ...decoder.config, ...changes };
  const weights = new Map(decoder.weights);
  // Token vectors far apart, so that the tokens before matter.
  const table = weights.get('model.embed_tokens.weight')!;
  weights.set('model.embed_tokens.weight', { ...table, data: (table.data as Float32Array).map((value) => 15 * value) });
  let addition;
  let user: ort.Tensor | undefined;
  if (integration !== undefined) {
    for (const [name, weight] of initialIntegrationWeights(integration, decoder, shape, 3)) weights.set(name, weight);
    addition = userAddition(integration, config, shape);
    const packed = [1, ...integration.packedShape(config, shape)];
    const size = packed.reduce((a, b) => a * b, 1);
    user = new ort.Tensor(
      'float32',
      Float32Array.from({ length: size }, (_, i) => Math.sin(i * i)),
      packed,
    );
  }
  const options = { intraOpNumThreads: 1 };
  const branching = await ort.InferenceSession.create(branchingModel(config, weights, addition), options);
  const sessions = {
    prompt: await ort.InferenceSession.create(inferenceModel(config, weights, addition), options),
    branching: () => Promise.resolve(branching),
  };
  const placeholders = integration?.placeholders(shape) ?? 0;
  return {
    sessions,
    /** Both scorers of a prompt of so many tokens. */
    scorers(length: number, seed: number) {
      const prompt = Array.from({ length }, (_, i) => 1 + ((i * i * 7 + i * seed) % (vocabulary - 1)));
      for (let i = 0; i < placeholders; i++) prompt.splice(i + (length > 1 ? 1 : 0), 0, vocabulary + i);
      return {
        branching: new BranchingScorer(sessions, config, { ids: prompt, blindTokens: 0, prefix: undefined }, user),
        whole: new WholeTexts(sessions.prompt, config, prompt, user),
      };
    },
    async close() {
      await sessions.prompt.release();
      await branching.release();
    },
  };
}

const window = (size: number) => ({ slidingWindow: { size, layers: [true, false] } });

const anyTitles = fc.array(fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 7 }), { minLength: 2, maxLength: 30 });

describe.each<[string, Partial<DecoderConfig>, number, Integration | undefined]>([
  ['a plain decoder', {}, 4, undefined],
  ['grouped heads', {}, 2, undefined],
  ['a sliding window that the titles outgrow', window(3), 2, undefined],
  ['a sliding window that begins in the prompt', window(12), 1, undefined],
  ['gated cross-attention', {}, 2, gatedCrossAttention({ every: 1, gate: 0.6 })],
  ['cross-attention with heads of its own', {}, 4, gatedCrossAttention({ every: 2, heads: 3, gate: 0.6 })],
  ['a soft prompt', {}, 2, softPrompt()],
  ['both together', {}, 2, combined([softPrompt(), gatedCrossAttention({ every: 2, gate: 0.6 })])],
])('branches behind one prompt: %s', (_, changes, keyValueHeads, integration) => {
  let model: Awaited<ReturnType<typeof open>>;
  beforeAll(async () => void (model = await open(changes, keyValueHeads, integration)));
  afterAll(() => model.close());

  test('rank like whole texts, by beam and exactly', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyTitles,
        fc.integer({ min: 1, max: 40 }),
        fc.nat(100),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom('vocabulary' as const, 'catalogue' as const),
        fc.array(fc.nat(29), { maxLength: 3 }),
        async (titles, length, seed, width, among, excluded) => {
          const trie = PrefixTrie.build(titles, end);
          const options = { top: width, among, exclude: excluded.filter((item) => item < titles.length) };
          const { branching, whole } = model.scorers(length, seed);
          for (const [actual, expected] of [
            [await beamSearch(trie, branching, { ...options, width }), await beamSearch(trie, whole, { ...options, width })],
            [
              await exactRanking(trie, branching, { ...options, chunk: 4 }),
              await exactRanking(trie, whole, { ...options, chunk: 4 }),
            ],
          ]) {
            expect([...actual.items]).toEqual([...expected.items]);
            actual.scores.forEach((score, i) => expect(Math.abs(score - expected.scores[i])).toBeLessThan(1e-4));
            expect(actual.tokens).toBe(expected.tokens);
          }
        },
      ),
      { numRuns: 12, seed: 1 },
    );
  });

  test('give the logits of whole texts from whichever state they grow, after a prompt of several parts too', async () => {
    for (const length of [2, 256, 300]) {
      const { branching, whole } = model.scorers(length, 3);
      const actual = [await branching.start()];
      const expected = [await whole.start()];
      // From every state two others, with all, some, or repeated rows; in no order that a search would have.
      for (const [from, rows] of [
        [0, 5],
        [0, 3],
        [1, 9],
        [2, 4],
        [3, 2],
        [1, 6],
        [5, 7],
        [3, 11],
        [8, 3],
      ]) {
        const before = expected[from].texts.length;
        const parents = Int32Array.from({ length: rows }, (_, i) => (i * 5 + rows) % before);
        const tokens = Int32Array.from({ length: rows }, (_, i) => 1 + ((i * 11 + from * 3 + rows) % (vocabulary - 1)));
        actual.push(await branching.step(actual[from], parents, tokens));
        expected.push(await whole.step(expected[from], parents, tokens));
      }
      for (const [i, state] of expected.entries()) {
        const { data, logNormalizers } = branching.logits(actual[i]);
        expect(data.length).toBe(state.logits.length);
        data.forEach((value, at) => expect(Math.abs(value - state.logits[at])).toBeLessThan(1e-4));
        logNormalizers!.forEach((value, row) => {
          const logits = state.logits.subarray(row * vocabulary, (row + 1) * vocabulary);
          const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
          expect(Math.abs(value - Math.log(sum))).toBeLessThan(1e-4);
        });
      }
    }
  });
});

describe('a beam', () => {
  test('may be wider than the room that its cache has at first', async () => {
    const model = await open({}, 2, undefined);
    const titles = Array.from({ length: 600 }, (_, i) => [1 + (i % 39), 1 + (i % 37), 1 + (i % 31), 1 + (i % 5)]);
    const trie = PrefixTrie.build(titles, end);
    const { branching, whole } = model.scorers(20, 1);
    const actual = await beamSearch(trie, branching, { top: 600, width: 600 });
    const expected = await beamSearch(trie, whole, { top: 600, width: 600 });
    expect(actual.tokens).toBeGreaterThan(1500);
    const truth = new Map(Array.from(expected.items, (item, i) => [item, expected.scores[i]]));
    expect(truth.size).toBe(600);
    actual.items.forEach((item, i) => expect(Math.abs(actual.scores[i] - truth.get(item)!)).toBeLessThan(1e-4));
    await model.close();
  });

  test('asks nothing about a title that can be no other, where probabilities are among the catalogue', async () => {
    const model = await open({}, 2, undefined);
    const trie = PrefixTrie.build(
      [
        [1, 2, 3, 4],
        [1, 2, 5, 6],
        [7, 8, 9],
      ],
      end,
    );
    const { branching } = model.scorers(5, 1);
    const ranking = await beamSearch(trie, branching, { top: 3, among: 'catalogue' });
    // Tokens 1 and 2, after which there is a choice; of the other titles the beginning says all.
    expect([ranking.tokens, ranking.steps]).toEqual([2, 2]);
    expect(ranking.scores.reduce((sum, score) => sum + Math.exp(score), 0)).toBeCloseTo(1, 5);
    const alone = await beamSearch(PrefixTrie.build([[1, 2, 3]], end), branching, { top: 1, among: 'catalogue' });
    expect([alone.tokens, alone.scores[0]]).toEqual([0, 0]);
    await model.close();
  });
});
