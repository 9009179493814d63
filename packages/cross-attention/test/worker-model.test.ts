import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { DoesNotFitError, EncoderMismatchError, ModelWorkerError, PrefixError } from '../src/errors.js';
import { ModelFolderError } from '../src/folder/model-folder-error.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { LanguageModel } from '../src/language-model.js';
import { byItemTokens } from '../src/ranking/by-item-tokens.js';
import { byRetrieval } from '../src/ranking/by-retrieval.js';
import { byTitle } from '../src/ranking/by-title.js';
import { PrefixTrie } from '../src/ranking/prefix-trie.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { packError, unpackError } from '../src/worker/error-transfer.js';
import { contentsOfTrie, trieOf } from '../src/worker/protocol.js';
import type { WorkerModel } from '../src/worker/worker-model.js';
import { ToyEncoder } from './toy-encoder.js';

const titles = ['Heat (1995)', 'Heat and Dust (1983)', 'Toy Story (1995)', 'Toy Story 2 (1999)', 'Jumanji (1995)'];
const tokenizer = trainByteLevelBpe(titles, { vocabularySize: 290 });
const base = LanguageModel.create({ width: 64, layers: 2, heads: 4, keyValueHeads: 2, context: 256 }, tokenizer, 1);
const encoder = ToyEncoder.create(2);
const messages = [{ role: 'user', content: 'Toy Story and Heat: what next?' }] as const;

let folder: string;
let served: ServedModel;
let workers: WorkerModel;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'worker-model-'));
  const integration = gatedCrossAttention({ every: 1, gate: 0.9 });
  const items = titles.map((text, i) => ({ id: `${i}`, text }));
  const { model } = base.withItemTokens(items).withUserEmbeddings({ encoder, integration, blindPrefix: { readingTokens: 3 } });
  await model.save(path.join(folder, 'model'));
  served = await LanguageModel.open(path.join(folder, 'model'), { threads: 1 });
  workers = await LanguageModel.openInWorkers(path.join(folder, 'model'), { workers: 2, threads: 2, rows: 3 });
}, 60_000);
afterAll(async () => {
  await workers.dispose();
  await served.dispose();
  await rm(folder, { recursive: true });
});

describe('a model in worker threads', () => {
  test('answers as it does in this thread, piece by piece, many at once', async () => {
    expect(workers.encoder).toBe(served.encoder);
    expect(workers.userStateEncoder).toBe(served.userStateEncoder);
    expect(workers.config).toEqual(served.config);
    const users = [undefined, encoder.encode([0, 1]), encoder.encode([4, 2]), encoder.encode([5, 5])];
    const answers = users.map((user) => workers.generate({ messages, user, maxNewTokens: 20 }));
    for (const [i, answer] of answers.entries()) {
      const expected = served.generate({ messages, user: users[i], maxNewTokens: 20 });
      const pieces: string[] = [];
      for await (const piece of answer.textStream) pieces.push(piece);
      expect(pieces.length).toBeGreaterThan(1);
      expect(pieces.join('')).toBe(await expected.text);
      expect(await answer.tokenIds).toEqual(await expected.tokenIds);
      expect(await answer.usage).toEqual(await expected.usage);
    }
  });

  test('by transformers.js\u2019s settings too, and drawn by a seed', async () => {
    const settings = { repetition_penalty: 1.3 };
    const expected = await served.generate({ messages, maxNewTokens: 12, settings }).tokenIds;
    expect(await workers.generate({ messages, maxNewTokens: 12, settings }).tokenIds).toEqual(expected);
    const request = { messages, maxNewTokens: 12, sampling: { seed: 3, temperature: 1.2 } };
    const drawn = await served.scheduler().generate(request).tokenIds;
    expect(await workers.generate(request).tokenIds).toEqual(drawn);
    await expect(workers.generate({ ...request, settings }).text).rejects.toThrow('not both');
    const set = (name: string, value: unknown) => workers.generate({ messages, settings: { [name]: value } }).text;
    await expect(set('streamer', {})).rejects.toThrow(
      new RangeError('settings.streamer cannot be set: the text comes piece by piece as textStream of the answer.'),
    );
    await expect(set('stopping_criteria', () => [true])).rejects.toThrow('is code, which cannot be sent to a worker thread');
  });

  test('ranks by item tokens, and says that a ranker of one\u2019s own cannot come along', async () => {
    const request = { messages, user: encoder.encode([3, 1]), top: 5 };
    const expected = await served.rank({ ...request, by: 'item-tokens' });
    const found = await workers.rank({ ...request, by: 'item-tokens' });
    expect(found).toMatchObject({ way: 'item-tokens', items: expected.items, scores: expected.scores, flops: expected.flops });
    await expect(workers.rank({ ...request, by: byItemTokens(5) })).rejects.toThrow('cannot be sent to a worker');
  });

  test('ranks anew what something quick has retrieved: its scores go along', async () => {
    const request = { messages, user: encoder.encode([3, 1]), top: 3 };
    const trie = base.trie(titles);
    const known = titles.map((_, i) => (i === 2 ? -Infinity : Math.sin(5 * i)));
    const byTokens = { by: 'item-tokens', retrieve: { retriever: () => known, candidates: 4 } } as const;
    const byTitles = { trie, retrieve: { retriever: async () => Float32Array.from(known), candidates: 3, retrieverShare: 0.5 } };
    for (const way of [byTokens, byTitles]) {
      const ranker = 'trie' in way ? byTitle(trie) : byItemTokens(5);
      const expected = await served.rank({ ...request, by: byRetrieval({ ...way.retrieve, ranker }) });
      expect(expected.way).toBe('retrieve');
      for (const model of [served, workers]) {
        const { way: found, items, scores } = await model.rank({ ...request, ...way });
        expect({ way: found, items, scores }).toEqual({ way: 'retrieve', items: expected.items, scores: expected.scores });
      }
    }
    for (const model of [served, workers]) {
      const few = { ...request, by: 'item-tokens', retrieve: { retriever: () => [1, 2] } } as const;
      await expect(model.rank(few)).rejects.toThrow(new RangeError('The retriever scores 2 items, and 5 are to be ranked.'));
    }
  });

  test('reads a user once, keeps a prefix and a trie, and ranks', async () => {
    const embedding = encoder.encode([3, 1]);
    const user = await workers.userState(embedding);
    expect(user.packed).toEqual((await served.userState(embedding)).packed);
    expect(await workers.storedUserState(user)).toEqual(await served.storedUserState(embedding));
    const prefix = await workers.prefix({ messages });
    expect(prefix.keysAndValues).toEqual((await served.prefix({ messages })).keysAndValues);
    const trie = base.trie(titles);
    const expected = await served.rank({ messages, user, trie, top: 4, exclude: [1] });
    for (const each of [undefined, prefix, prefix]) {
      const ranking = await workers.rank({ messages, user, trie, top: 4, exclude: new Set([1]), prefix: each });
      expect([...ranking.items]).toEqual([...expected.items]);
      ranking.scores.forEach((score, i) => expect(score).toBeCloseTo(expected.scores[i], 4));
    }
    const behind = workers.generate({ messages, user, prefix, maxNewTokens: 16 });
    expect(await behind.tokenIds).toEqual(await served.generate({ messages, user, maxNewTokens: 16 }).tokenIds);
  });

  test('a signal stops it there, and rejects with its reason here', async () => {
    const stop = new AbortController();
    const answer = workers.generate({ messages, maxNewTokens: 200, signal: stop.signal });
    let pieces = 0;
    await expect(
      (async () => {
        for await (const _ of answer.textStream) if (++pieces === 2) stop.abort(new Error('enough'));
      })(),
    ).rejects.toThrow('enough');
    await expect(answer.text).rejects.toThrow('enough');
    const before = new AbortController();
    before.abort(new Error('never'));
    await expect(workers.generate({ messages, signal: before.signal }).text).rejects.toThrow('never');
    await expect(workers.prefix({ messages, signal: before.signal })).rejects.toThrow('never');
    expect(await workers.generate({ messages, maxNewTokens: 3 }).tokenIds).toHaveLength(3);
  });

  test('a few rankings run at once in a worker, and one that is stopped while it waits leaves', async () => {
    const one = await LanguageModel.openInWorkers(path.join(folder, 'model'), { threads: 1, atOnce: 1 });
    const stop = new AbortController();
    const trie = base.trie(titles);
    const expected = await one.rank({ messages, trie, top: 5 });
    const rankings = Array.from({ length: 6 }, (_, i) =>
      one.rank({ messages, trie, top: 5, ...(i === 5 ? { signal: stop.signal } : {}) }),
    );
    expect(one.load).toBe(6);
    stop.abort(new Error('gone'));
    await expect(rankings.pop()).rejects.toThrow('gone');
    for (const { items } of await Promise.all(rankings)) expect(items).toEqual(expected.items);
    expect(one.load).toBe(0);
    await one.dispose();
  });

  test('errors are the same errors on this side', async () => {
    const tooLong = workers.generate({ messages, maxNewTokens: 256 }).text;
    await expect(tooLong).rejects.toBeInstanceOf(DoesNotFitError);
    await expect(tooLong).rejects.toMatchObject({ context: 256 });
    const foreign = { ...encoder.encode([0, 1]), encoder: 'another' };
    await expect(workers.userState(foreign)).rejects.toMatchObject({ expected: encoder.manifest.hash, actual: 'another' });
    await expect(workers.rank({ messages, user: foreign, trie: base.trie(titles), top: 1 })).rejects.toThrow(
      EncoderMismatchError,
    );
    await expect(workers.prefix({ promptIds: [5, 6] })).rejects.toThrow(PrefixError);
    await expect(workers.rank({ messages, top: 1 } as never)).rejects.toThrow(/^There is nothing to rank: give trie/);
    for (const user of [null, { status: 'missing' }, { encoder: 'e', dtype: 'float32', shape: [2, 8] }] as never[])
      await expect(workers.generate({ messages, user }).text).rejects.toThrow(TypeError);
    await expect(LanguageModel.openInWorkers(path.join(folder, 'nothing'))).rejects.toThrow(ModelFolderError);
    const file = path.join(folder, 'model.gguf');
    await writeFile(file, 'GGUF');
    await expect(LanguageModel.openInWorkers(file)).rejects.toThrow(/model\.gguf is not what `save` wrote/);
    await expect(LanguageModel.openInWorkers(folder, { workers: 0 })).rejects.toThrow('workers must be');
    await expect(LanguageModel.openInWorkers(folder, { atOnce: 0 })).rejects.toThrow('atOnce must be');
  });

  test('a thread that ends fails those who wait for it; the next ones ask the others, while there are any', async () => {
    const two = await LanguageModel.openInWorkers(path.join(folder, 'model'), { workers: 2, threads: 2 });
    const end = (at: number) => two['workers'][at]['worker'].terminate();
    const ended = end(0);
    const waiting = two.generate({ messages, maxNewTokens: 2 });
    await expect(waiting.text).rejects.toThrow(ModelWorkerError);
    await ended;
    for (let i = 0; i < 3; i++) expect(await two.generate({ messages, maxNewTokens: 2 }).tokenIds).toHaveLength(2);
    expect((await two.rank({ messages, trie: base.trie(titles), top: 2 })).items).toHaveLength(2);
    await end(1);
    await expect(two.generate({ messages, maxNewTokens: 2 }).text).rejects.toThrow(ModelWorkerError);
    await expect(two.rank({ messages, trie: base.trie(titles), top: 2 })).rejects.toThrow(ModelWorkerError);
    await two.dispose();
  });

  test('closing it stops what is under way and ends the threads', async () => {
    const other = await LanguageModel.openInWorkers(path.join(folder, 'model'), { threads: 1 });
    const answer = other.generate({ messages, maxNewTokens: 200 });
    for await (const _ of answer.textStream) {
      await other.dispose();
      break;
    }
    await expect(answer.text).rejects.toThrow('disposed');
    await expect(other.generate({ messages }).text).rejects.toThrow('disposed');
    await other.dispose();
  });
});

test('an error keeps its class, its fields and what its isInstance asks for', () => {
  for (const error of [new DoesNotFitError(9, 8), new EncoderMismatchError('a', 'b'), new ModelWorkerError('it is gone')]) {
    const again = unpackError(structuredClone(packError(error)));
    expect(again).toMatchObject({ ...error });
    expect(again.message).toBe(error.message);
    expect(String(again)).toBe(String(error));
  }
  expect(DoesNotFitError.isInstance(unpackError(packError(new DoesNotFitError(9, 8))))).toBe(true);
  expect(unpackError(packError(new RangeError('too far')))).toBeInstanceOf(RangeError);
  expect(unpackError(packError('a text')).message).toBe('a text');
});

test('a trie is the same trie after the way through a message', () => {
  for (const texts of [titles, ['Heat (1995)', 'Heat (1995)', 'Heat (1995) and more'], []]) {
    const trie = PrefixTrie.build(
      texts.map((text) => base.tokenizer.encode(text)),
      base.tokenizer.eos,
    );
    const again = trieOf(structuredClone(contentsOfTrie(trie)));
    expect(again.token).toEqual(trie.token);
    expect(again.leafOfItem).toEqual(trie.leafOfItem);
    expect(again.parent).toEqual(trie.parent);
  }
});
