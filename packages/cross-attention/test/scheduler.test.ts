import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { AutoModelForCausalLM, Tensor } from '@huggingface/transformers';
import type { PreTrainedModel } from '@huggingface/transformers';
import { DoesNotFitError } from '../src/errors.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import type { RequestScheduler } from '../src/serving/scheduler.js';
import type { ServedModel } from '../src/serving/served-model.js';
import type { UserState } from '../src/serving/user-state.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { failAllocations } from './failing-allocations.js';
import { ToyEncoder } from './toy-encoder.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(fileURLToPath(new URL('.', import.meta.url)), '../../../../shared');
const hasModels = existsSync(path.join(shared, 'models/TinyStories-656K'));
if (!hasModels) console.warn(`skipped: no reference models under ${shared}; set USER_LLM_SHARED`);

const encoder = ToyEncoder.create(2);
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'scheduler-'))));
afterAll(async () => rm(folder, { recursive: true }));

const readingTokens = 2;
const lengths = [5, 90, 3, 17, 64, 9, 30, 12, 1];

(hasModels ? describe : describe.skip).each<[string, Integration, { readonly quantize?: 4 }]>([
  ['gated cross-attention', gatedCrossAttention({ every: 1, gate: 0.7 }), {}],
  ['gated cross-attention over 4-bit weights', gatedCrossAttention({ every: 1, gate: 0.7 }), { quantize: 4 }],
  ['soft prompt', softPrompt(), {}],
  ['both together', combined([softPrompt(), gatedCrossAttention({ every: 2, gate: 0.7 })]), {}],
])('TinyStories-656K, answering many at once, by %s', (name, integration, precision) => {
  let served: ServedModel;
  let plain: PreTrainedModel;
  let states: UserState[];
  const words = 'Once upon a time there was a little girl who had a red ball and a big dog . '.repeat(8);
  let prompts: number[][];
  beforeAll(async () => {
    const place = path.join(folder, name.replaceAll(' ', '-'));
    const stories = await LanguageModel.load(path.join(shared, 'models/TinyStories-656K'));
    const all = stories.tokenizer.encode(words);
    prompts = lengths.map((length, i) => all.slice(i, i + length + readingTokens));
    await stories
      .withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens }, seed: 4 })
      .model.save(place, precision);
    served = await LanguageModel.open(place, { threads: 1 });
    plain = await AutoModelForCausalLM.from_pretrained(place, { local_files_only: true });
    plain.forward_params.push('user_embeddings', 'blind_length');
    states = await Promise.all(lengths.map((_, i) => served.userState(encoder.encode([i % 6, (i * 5 + 1) % 6]))));
  });
  afterAll(async () => {
    await plain.dispose();
    await served.dispose();
  });

  /** The library's own greedy answer, over the saved folder. */
  async function expected(i: number, tokens: number): Promise<number[]> {
    const ids = served.promptIds({ promptIds: prompts[i] }, true);
    const output = (await plain.generate({
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      user_embeddings: new Tensor('float32', states[i].packed, [...states[i].shape]),
      blind_length: new Tensor('int64', [BigInt(lengths[i])], []),
      max_new_tokens: tokens,
    } as Parameters<typeof plain.generate>[0])) as Tensor;
    return Array.from(output.data as BigInt64Array, Number).slice(ids.length);
  }

  test('gives every token of transformers.js over the saved folder, whoever else is answered', async () => {
    const scheduler = served.scheduler({ rows: 4 });
    const tokens = (i: number) => 6 + 5 * (i % 4);
    const answers = lengths.map((_, i) =>
      scheduler.generate({ promptIds: prompts[i], user: states[i], maxNewTokens: tokens(i) }),
    );
    for (const [i, answer] of answers.entries()) expect(await answer.tokenIds).toEqual(await expected(i, tokens(i)));
    expect(new Set(await Promise.all(answers.map(({ text }) => text))).size).toBeGreaterThan(3);
    expect(scheduler.load).toBe(0);
  });

  test('and behind a prefix, and for those who join while others are answered', async () => {
    const scheduler = served.scheduler({ rows: 3 });
    const prefix = await served.prefix({ promptIds: prompts[1] });
    const first = scheduler.generate({ promptIds: prompts[1], user: states[1], prefix, maxNewTokens: 20 });
    const answers = [first];
    for await (const _ of first.textStream) {
      const i = answers.length;
      if (i >= 4) continue;
      answers.push(scheduler.generate({ promptIds: prompts[1], user: states[1], prefix, maxNewTokens: 5 * i }));
    }
    const whole = await expected(1, 20);
    for (const [i, answer] of answers.entries()) expect(await answer.tokenIds).toEqual(i === 0 ? whole : whole.slice(0, 5 * i));
    const plainAnswer = await scheduler.generate({ promptIds: prompts[1], user: states[1], maxNewTokens: 20 }).usage;
    expect((await first.usage).flops).toBeLessThan(plainAnswer.flops);
  });
});

describe('a scheduler', () => {
  const tokenizer = trainByteLevelBpe(['Heat (1995)', 'Toy Story (1995)'], { vocabularySize: 280 });
  const base = LanguageModel.create({ width: 64, layers: 2, heads: 4, keyValueHeads: 2, context: 1024 }, tokenizer, 1);
  let served: ServedModel;
  let scheduler: RequestScheduler;
  beforeAll(async () => {
    served = await base.serve({ threads: 1 });
    scheduler = served.scheduler({ rows: 3 });
  });
  afterAll(() => served.dispose());

  test('draws by the seed alone: the same alone and in company, another with another seed', async () => {
    const request = (seed: number) => ({ prompt: 'Heat', maxNewTokens: 12, sampling: { seed, temperature: 1.3 } });
    const alone = await scheduler.generate(request(7)).tokenIds;
    const company = [3, 7, 5, 7, 9].map((seed) => scheduler.generate(request(seed)).tokenIds);
    const all = await Promise.all(company);
    expect(all[1]).toEqual(alone);
    expect(all[3]).toEqual(alone);
    expect(all[0]).not.toEqual(alone);
  });

  test('a signal stops between two tokens, and the others go on', async () => {
    const stop = new AbortController();
    const expected = await scheduler.generate({ prompt: 'Toy', maxNewTokens: 24 }).tokenIds;
    const stopped = scheduler.generate({ prompt: 'Heat', maxNewTokens: 500, signal: stop.signal });
    const other = scheduler.generate({ prompt: 'Toy', maxNewTokens: 24 });
    let pieces = 0;
    await expect(
      (async () => {
        for await (const _ of stopped.textStream) if (++pieces === 3) stop.abort(new Error('enough'));
      })(),
    ).rejects.toThrow('enough');
    expect(pieces).toBeLessThan(10);
    await expect(stopped.tokenIds).rejects.toThrow('enough');
    expect(await other.tokenIds).toEqual(expected);
    await expect(scheduler.generate({ prompt: 'Heat', signal: stop.signal }).text).rejects.toThrow('enough');
  });

  test('a signal stops one that still waits', async () => {
    const stop = new AbortController();
    const running = [1, 2, 3].map(() => scheduler.generate({ prompt: 'Toy', maxNewTokens: 30 }).tokenIds);
    const waiting = scheduler.generate({ prompt: 'Heat', signal: stop.signal });
    setImmediate(() => stop.abort(new Error('gone')));
    await expect(waiting.text).rejects.toThrow('gone');
    expect((await Promise.all(running)).map(({ length }) => length)).toEqual([30, 30, 30]);
  });

  test('a long prompt runs in parts, between the tokens of the others', async () => {
    const begun: string[] = [];
    const alone = await scheduler.generate({ prompt: 'Toy', maxNewTokens: 40 }).tokenIds;
    const short = scheduler.generate({ prompt: 'Toy', maxNewTokens: 40 });
    const watch = async (name: string, { textStream }: typeof short) => {
      for await (const _ of textStream) begun.push(name);
    };
    const watching = watch('short', short);
    await new Promise((resolve) => setTimeout(resolve, 1));
    const long = scheduler.generate({ promptIds: Array.from({ length: 600 }, (_, i) => 1 + (i % 250)), maxNewTokens: 2 });
    await Promise.all([watching, watch('long', long)]);
    expect(begun.slice(0, begun.indexOf('long')).filter((name) => name === 'short').length).toBeGreaterThan(5);
    expect(begun.lastIndexOf('short')).toBeGreaterThan(begun.indexOf('long'));
    // Also once the long one has left, and what it needed was given back.
    expect(await short.tokenIds).toEqual(alone);
  });

  test('what is wrong with one request is not the others\u2019 fault', async () => {
    const good = scheduler.generate({ prompt: 'Toy', maxNewTokens: 6 });
    for (const answering of [scheduler, served]) {
      for (const id of [9000, -1, 1.5])
        expect(() => answering.generate({ promptIds: [5, id], maxNewTokens: 6 })).toThrow(
          new RangeError(
            "The prompt's id at place 1 is no token of the vocabulary of 265; encode it with this model's tokenizer.",
          ),
        );
      for (const maxNewTokens of [0, -1, 1.5, NaN, Infinity])
        expect(() => answering.generate({ prompt: 'Heat', maxNewTokens })).toThrow(
          new RangeError(`maxNewTokens must be a whole number of at least 1, not ${maxNewTokens}.`),
        );
    }
    expect(await good.tokenIds).toHaveLength(6);
    expect(() => scheduler.generate({ prompt: 'Heat', maxNewTokens: 1024 })).toThrow(DoesNotFitError);
    expect(() => scheduler.generate({ prompt: 'Heat', sampling: { seed: 1, temperature: 0 } })).toThrow('above 0');
    expect(() => scheduler.generate({ prompt: 'Heat', sampling: { seed: 1, topP: 1.5 } })).toThrow('topP');
    expect(() => scheduler.generate({ prompt: 'Heat', sampling: { seed: 1, topK: 0 } })).toThrow('topK');
    expect(() => served.scheduler({ rows: 0 })).toThrow('rows must be');
  });

  test('nor is a user who holds NaN or Infinity', async () => {
    const reading = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1, gate: 0.5 }) }).model;
    const other = await reading.serve({ threads: 1 });
    const busy = other.scheduler();
    const user = encoder.encode([1, 2]);
    const request = { prompt: 'Toy', user, maxNewTokens: 6 };
    const alone = await busy.generate(request).tokenIds;
    const good = busy.generate(request);
    const infinite = { ...user, dtype: 'float16', data: new Uint16Array(user.data.length).fill(0x7c00) } as const;
    const wrong = busy.generate({ ...request, user: infinite });
    await expect(wrong.tokenIds).rejects.toThrow('The embedding holds NaN or Infinity; encode the user again.');
    // As one that overflows within the model.
    const state = await other.userState(user);
    for (const sampling of [{}, { sampling: { seed: 1 } }]) {
      const broken = { ...state, packed: state.packed.map(() => 3e38) };
      await expect(busy.generate({ ...request, user: broken, ...sampling }).tokenIds).rejects.toThrow('are not finite');
    }
    expect(await good.tokenIds).toEqual(alone);
    await other.dispose();
  });

  test.each([
    ['keys and values', (elements: number) => elements > 2 * 2 * 300 * 16],
    ['user', (elements: number, packed: number) => elements === 2 * 3 * packed],
  ])('nor is memory that cannot be had for one\u2019s %s', async (_, tooMuch) => {
    const reading = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1, gate: 0.5 }) }).model;
    const other = await reading.serve({ threads: 1 });
    const busy = other.scheduler({ rows: 4 });
    const users = await Promise.all([1, 2, 3].map((film) => other.userState(encoder.encode([film, 5]))));
    const request = (i: number, tokens = 12) => ({ promptIds: [70 + i, 80, 90 + i], user: users[i], maxNewTokens: tokens });
    const alone = [await busy.generate(request(0)).tokenIds, await busy.generate(request(1)).tokenIds];
    const good = [busy.generate(request(0)), busy.generate(request(1))];
    const long = Array.from({ length: 300 }, (_, i) => 10 + (i % 250));
    let restore = () => {};
    const newcomer = (async () => {
      for await (const _ of good[1].textStream) break;
      restore = failAllocations((elements) => tooMuch(elements, users[0].packed.length));
      return busy.generate({ promptIds: long, user: users[2], maxNewTokens: 4 }).tokenIds;
    })();
    await expect(newcomer).rejects.toThrow('Array buffer allocation failed');
    restore();
    for (const [i, answer] of good.entries()) expect(await answer.tokenIds).toEqual(alone[i]);
    expect(busy.load).toBe(0);
    await other.dispose();
  });

  test('nor what goes wrong with one of several answers between two tokens', async () => {
    const request = { prompt: 'Toy', maxNewTokens: 6 };
    const alone = await scheduler.generate(request).tokenIds;
    const good = [scheduler.generate(request), scheduler.generate(request)];
    let pieces = 0;
    const decode = jest.spyOn(served.tokenizer, 'decode').mockImplementation(function (this: TextTokenizer, ids) {
      // Of three answers the second one's second token.
      if (ids.length === 2 && ++pieces === 2) throw new Error('cannot be written');
      return TextTokenizer.prototype.decode.call(this, ids);
    });
    const bad = scheduler.generate(request);
    const ends = await Promise.allSettled([...good, bad].map(({ tokenIds }) => tokenIds));
    decode.mockRestore();
    expect(ends.filter(({ status }) => status === 'rejected')).toHaveLength(1);
    for (const end of ends) if (end.status === 'fulfilled') expect(end.value).toEqual(alone);
    expect(scheduler.load).toBe(0);
  });

  test('closing the model stops what is under way and what waits', async () => {
    const other = await base.serve({ threads: 1 });
    const busy = other.scheduler({ rows: 1 });
    const answers = [1, 2, 3].map(() => busy.generate({ prompt: 'Heat', maxNewTokens: 500 }));
    setImmediate(() => void other.dispose());
    for (const { text } of answers) await expect(text).rejects.toThrow('disposed');
    expect(() => busy.generate({ prompt: 'Heat' })).toThrow('disposed');
    expect(() => other.scheduler()).toThrow('disposed');
  });

  test('closed by itself it says so, and the model answers on', async () => {
    const other = served.scheduler();
    await other.dispose();
    expect(() => other.generate({ prompt: 'Heat' })).toThrow('This scheduler, or its model, was disposed; make another one.');
    expect(await served.scheduler().generate({ prompt: 'Heat', maxNewTokens: 2 }).tokenIds).toHaveLength(2);
  });

  test('once closed it is the model\u2019s no longer, which closes those that it still has', async () => {
    const other = await base.serve({ threads: 1 });
    const [closed, open] = [other.scheduler(), other.scheduler()];
    await closed.dispose();
    const again = [closed, open].map((each) => jest.spyOn(each, 'dispose'));
    await other.dispose();
    expect(again.map(({ mock }) => mock.calls.length)).toEqual([0, 1]);
  });

  test('closing the model twice waits for the same end', async () => {
    const other = await base.serve({ threads: 1 });
    const order: string[] = [];
    const running = other.generate({ prompt: 'Heat', maxNewTokens: 12 }).tokenIds.then(() => order.push('answer'));
    await new Promise((resolve) => setImmediate(resolve));
    const closing = [1, 2].map(() => other.dispose().then(() => order.push('closed')));
    await Promise.all([running, ...closing]);
    expect(order).toEqual(['answer', 'closed', 'closed']);
  });

  test('closing the model waits for what runs without a scheduler', async () => {
    const user = encoder.encode([1, 2]);
    const integration = gatedCrossAttention({ every: 1 });
    const reading = base.withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens: 1 } }).model;
    const other = await reading.serve({ threads: 1 });
    const trie = base.trie(['Heat (1995)', 'Toy Story (1995)']);
    const answers = Promise.all([
      other.generate({ prompt: 'Heat', maxNewTokens: 12 }).tokenIds,
      other.rank({ prompt: 'Heat', trie, top: 2 }).then(({ items }) => items),
      other.prefix({ promptIds: [5, 6] }).then(({ ids }) => ids),
      other.userState(user).then((state) => [state]),
    ]);
    const closed = new Promise((resolve) => setImmediate(() => resolve(other.dispose())));
    expect((await answers).map(({ length }) => length)).toEqual([12, 2, 1, 1]);
    await closed;
    expect(() => other.generate({ prompt: 'Heat' })).toThrow('disposed');
    await expect(other.rank({ prompt: 'Heat', trie, top: 2 })).rejects.toThrow('disposed');
  });
});
