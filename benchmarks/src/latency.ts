/**
 * `npm run bench -- latency [--model FILE.gguf] [--events 50,100,...] [--rounds N] [--text-rounds N] [--load-seconds N] [--threads N] [--int8]`
 *
 * From a request to its first token, wall-clock, for users with 50 to 10,000 events: the history as text in the prompt (titles and
 * years, about 12 tokens an event, on the faster of this package and node-llama-cpp, where that is installed and its script is found in USER_LLM_PEERS) beside the user's embedding from a store. The
 * model is SmolLM2-135M-Instruct's 4-bit GGUF file, found under USER_LLM_MODELS, with fresh gated cross-attention before every 4th layer:
 * what is computed does not depend on what the weights have learned, so nothing is trained here. It runs in one worker thread; with `--int8`
 * both the text prompt and ours compute the layers' products in integers.
 *
 * Ours counts the store's read with its checksum, the message to the worker, the whole chat template, the user's keys and values, and the
 * first token's choice. `warm`: the embedding lies in the store; `stored`: its keys and values lie there; `cold`: raw events are tokenised
 * and encoded in the request, on the main thread. Each with the whole prompt reading the user, and behind a blind prefix, of which the last
 * 5 tokens run. Then 1, 4 and 16 users at once, and how long the main thread's event loop was held up. `ratio` and `ratioBlind` are
 * the text prompt's median over `warm`'s. `cachedText` is the text prompt whose keys and values lie in a store for each user, and their bytes.
 *
 * The last line is one JSON object; it is also written to benchmarks/results/latency-PROCESSOR.json (latency-int8-...) where the settings are the usual ones.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { DoesNotFitError, LanguageModel, gatedCrossAttention } from '@user-llm/cross-attention';
import type { Prefix, TrainableEncoder, WorkerModel } from '@user-llm/cross-attention';
import { openStore } from '@user-llm/embedding-store';
import type { EmbeddingStore } from '@user-llm/embedding-store';
import { machineDescription } from '@user-llm/evaluation';
import type { Row } from '@user-llm/event-tokenizer';
import { PromptCache } from '@user-llm/reference';
import { UserEncoder } from '@user-llm/user-encoder';
import { median, quantile, rounded } from './encoder/statistics.js';
import { firstTokensOfLlamaCpp } from './inference/llama-cpp-first-token.js';
import { missingLlamaCpp } from './inference/llama-cpp.js';
import { ggufToMeasure } from './inference/model-file.js';
import { simulatedHistories } from './latency/histories.js';
import type { Histories } from './latency/histories.js';
import { underLoad } from './latency/load.js';
import { keepSpeeds } from './record/results.js';

const seed = 1;
const userSize = { width: 64, userTokens: 16 };
const every = 4;
/** The end of the user's turn and the beginning of the answer: these read the user behind a blind prefix. */
const readingTokens = 5;
const question = 'What next?';
/** A conversation about the question: the same for the text prompt, which has the history before it. */
const asking = (content: string) =>
  [
    { role: 'system', content: 'You recommend films.' },
    { role: 'user', content },
  ] as const;
const messages = asking(question);
const usersAtOnce = [1, 4, 16];
const answerTokens = 16;

const timesOf = async (rounds: number, work: () => Promise<unknown>): Promise<number[]> => {
  await work();
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    await work();
    times.push(performance.now() - begun);
  }
  return times;
};

const spread = (ms: readonly number[]) => ({ p50Ms: median(ms), p95Ms: quantile(ms, 0.95) });

interface TextFigures {
  readonly promptTokens: number;
  /** Null where prompt and answer are longer than the model's context. */
  readonly oursMs: number | null;
}

/** The text prompt, in a worker too, on the base model: without anything that reads users. */
async function textPrompts(
  folder: string,
  histories: Histories,
  { lengths, rounds, threads, int8 }: { lengths: readonly number[]; rounds: number; threads: number; int8: boolean },
): Promise<Map<number, TextFigures>> {
  const workers = await LanguageModel.openInWorkers(folder, { threads, int8 });
  const figures = new Map<number, TextFigures>();
  for (const length of lengths) {
    const asked = asking(`${histories.text(await histories.rows(length))}. ${question}`);
    const promptTokens = workers.tokenizer.chat(asked).length;
    let oursMs: number | null = null;
    try {
      oursMs = median(await timesOf(rounds, () => workers.generate({ messages: asked, maxNewTokens: 1 }).tokenIds));
    } catch (error) {
      if (!DoesNotFitError.isInstance(error)) throw error;
    }
    figures.set(length, { promptTokens, oursMs });
    console.log(
      `${length} events as text, ${promptTokens} tokens: ${oursMs === null ? 'does not fit' : `${oursMs.toFixed(0)} ms`}`,
    );
  }
  await workers.dispose();
  return figures;
}

interface CachedTextFigures {
  readonly p50Ms: number;
  readonly p95Ms: number;
  /** Of one user's record in the store. */
  readonly bytes: number;
}

/**
 * The text prompt of a service that keeps each user's keys and values in a store and reads them there, the last tokens alone being run: in
 * this process, since a message to a worker would copy them once more.
 */
async function cachedTextPrompts(
  folder: string,
  histories: Histories,
  { lengths, rounds, threads, int8 }: { lengths: readonly number[]; rounds: number; threads: number; int8: boolean },
): Promise<Map<number, CachedTextFigures>> {
  const served = await LanguageModel.open(path.join(folder, 'base'), { threads, int8 });
  const store = await openStore(`lmdb:${path.join(folder, 'prompts')}`);
  const cache = new PromptCache(store, served);
  const figures = new Map<number, CachedTextFigures>();
  for (const length of lengths) {
    const promptIds = served.tokenizer.chat(asking(`${histories.text(await histories.rows(length))}. ${question}`));
    const kept = promptIds.length - readingTokens;
    const user = { user: `user-${length}`, tokenizer: histories.tokenizer.hash, watermark: { time: 0, count: length } };
    const bytes = await cache.put(user, promptIds, kept);
    const times = await timesOf(rounds, async () => {
      const prefix = await cache.get(user.user, promptIds, kept);
      return served.generate({ promptIds, prefix, maxNewTokens: 1 }).tokenIds;
    });
    figures.set(length, { ...spread(times), bytes });
    console.log(
      `${length} events as text that was read before: ${median(times).toFixed(0)} ms, ${(bytes / 1e6).toFixed(0)} MB a user`,
    );
  }
  await served.dispose();
  await store.close();
  return figures;
}

/** What a request with an embedding is made of. */
interface Setting {
  readonly workers: WorkerModel;
  readonly store: EmbeddingStore;
  readonly encoder: UserEncoder;
  readonly histories: Histories;
  readonly prefix: Prefix;
}

async function readUser(store: EmbeddingStore, user: string, encoder: string) {
  const found = await store.get({ user }, { encoder });
  if (found.status !== 'found') throw new Error(`internal: a user of this benchmark is ${found.status} in the store`);
  return found.embedding;
}

async function encodedUser({ encoder, histories }: Pick<Setting, 'encoder' | 'histories'>, rows: readonly Row[]) {
  return encoder.encodeUser(await histories.tokenizer.encode(rows), 0);
}

/** The same question with an embedding, for a user of so many events. */
async function embeddingRequests(setting: Setting, length: number, rounds: number) {
  const { workers, store, encoder, histories, prefix } = setting;
  const rows = await histories.rows(length);
  const embedding = { ...(await encodedUser(setting, rows)), user: `user-${length}` };
  await store.put(embedding);
  await store.put({ ...embedding, state: undefined, ...(await workers.storedUserState(embedding)) });
  const ask = (user: Parameters<WorkerModel['userState']>[0], isBlind: boolean) =>
    workers.generate({ messages, user, maxNewTokens: 1, ...(isBlind ? { prefix } : { blindTokens: 0 }) }).tokenIds;
  const figuresOf = async (isBlind: boolean) => ({
    warm: spread(await timesOf(rounds, async () => ask(await readUser(store, embedding.user, encoder.hash), isBlind))),
    stored: spread(
      await timesOf(rounds, async () => ask(await readUser(store, embedding.user, workers.userStateEncoder!), isBlind)),
    ),
    cold: spread(await timesOf(rounds, async () => ask(await encodedUser(setting, rows), isBlind))),
  });
  return { whole: await figuresOf(false), blind: await figuresOf(true) };
}

/** Answers of a few tokens to many users at once, read from the store, behind the prefix. */
async function load({ workers, store, encoder, prefix }: Setting, lengths: readonly number[], seconds: number) {
  const figures: Record<string, Awaited<ReturnType<typeof underLoad>>> = {};
  for (const users of usersAtOnce) {
    figures[users] = await underLoad(users, seconds, async (i) => {
      const begun = performance.now();
      const user = await readUser(store, `user-${lengths[i % lengths.length]}`, encoder.hash);
      const answer = workers.generate({ messages, user, prefix, maxNewTokens: answerTokens });
      let firstTokenMs = 0;
      for await (const _ of answer.textStream) firstTokenMs ||= performance.now() - begun;
      const { length: tokens } = await answer.tokenIds;
      const totalMs = performance.now() - begun;
      return { firstTokenMs: firstTokenMs || totalMs, totalMs, tokens };
    });
    const { firstTokenP50Ms, firstTokenP95Ms, tokensPerSecond, longestGapMs } = figures[users];
    console.log(
      `${users} at once: first token ${firstTokenP50Ms.toFixed(0)} ms (p95 ${firstTokenP95Ms.toFixed(0)}), ${tokensPerSecond.toFixed(0)} tokens/s, event loop's longest gap ${longestGapMs.toFixed(1)} ms`,
    );
  }
  return figures;
}

async function main(): Promise<void> {
  const usual = { events: '50,100,200,600,1000,10000', rounds: '30', 'text-rounds': '3', 'load-seconds': '10' };
  const { values } = parseArgs({
    options: {
      model: { type: 'string' },
      events: { type: 'string', default: usual.events },
      rounds: { type: 'string', default: usual.rounds },
      'text-rounds': { type: 'string', default: usual['text-rounds'] },
      'load-seconds': { type: 'string', default: usual['load-seconds'] },
      threads: { type: 'string', default: String(Math.min(2, os.availableParallelism())) },
      int8: { type: 'boolean', default: false },
    },
  });
  const lengths = values.events.split(',').map(Number);
  const rounds = Math.max(1, Number(values.rounds));
  const textRounds = Math.max(1, Number(values['text-rounds']));
  const threads = Number(values.threads);
  const { int8 } = values;
  const file = await ggufToMeasure(values.model);
  const histories = await simulatedHistories(seed);
  const encoder = UserEncoder.create(histories.tokenizer, { ...userSize, layers: 2, heads: 2, context: 200, seed });

  const folder = await mkdtemp(path.join(os.tmpdir(), 'latency-bench-'));
  try {
    const base = await LanguageModel.load(file);
    await base.save(path.join(folder, 'base'), { trainable: false });
    const reads = { manifest: { ...userSize, hash: encoder.hash } } as unknown as TrainableEncoder<never>;
    const { model } = base.withUserEmbeddings({
      encoder: reads,
      integration: gatedCrossAttention({ every, gate: 0.5 }),
      blindPrefix: { readingTokens },
    });
    await model.save(path.join(folder, 'user'), { trainable: false });

    const text = await textPrompts(path.join(folder, 'base'), histories, { lengths, rounds: textRounds, threads, int8 });
    const fitting = [...text.values()].filter(({ oursMs }) => oursMs !== null).map(({ promptTokens }) => promptTokens);
    const fits = lengths.filter((length) => text.get(length)!.oursMs !== null);
    const cached = await cachedTextPrompts(folder, histories, { lengths: fits, rounds: textRounds, threads, int8 });
    const missing = missingLlamaCpp();
    const context = base.config.contextLength;
    const peerOptions = { file, lengths: fitting, rounds: textRounds, threads, context };
    const peer = missing === null ? await firstTokensOfLlamaCpp(peerOptions) : null;
    if (peer === null) console.log(`node-llama-cpp is not beside it: ${missing ?? 'it is installed but did not run'}`);

    const store = await openStore(`lmdb:${path.join(folder, 'store')}`);
    const workers = await LanguageModel.openInWorkers(path.join(folder, 'user'), { threads, int8 });
    const prefix = await workers.prefix({ messages });
    const setting = { workers, store, encoder, histories, prefix };
    const results: Record<string, unknown> = {};
    for (const length of lengths) {
      const { promptTokens, oursMs } = text.get(length)!;
      const llamaCppMs = peer?.[promptTokens] === undefined ? null : median(peer[promptTokens]);
      const textMs = oursMs === null ? null : Math.min(oursMs, llamaCppMs ?? Infinity);
      const { whole, blind } = await embeddingRequests(setting, length, rounds);
      const over = (ours: number) => (textMs === null ? null : textMs / ours);
      results[`events${length}`] = {
        textTokens: promptTokens,
        text: textMs === null ? 'does not fit' : { ms: textMs, oursMs, llamaCppMs },
        cachedText: cached.get(length) ?? 'does not fit',
        embedding: whole,
        embeddingBlind: blind,
        ratio: over(whole.warm.p50Ms),
        ratioBlind: over(blind.warm.p50Ms),
      };
      console.log(
        `${length} events as an embedding: ${whole.warm.p50Ms.toFixed(1)} ms, behind the blind prefix ${blind.warm.p50Ms.toFixed(1)} ms; cold ${whole.cold.p50Ms.toFixed(1)} and ${blind.cold.p50Ms.toFixed(1)} ms`,
      );
    }
    const concurrent = await load(setting, lengths, Number(values['load-seconds']));
    const [{ data: embedding }, { data: state }] = await Promise.all([
      readUser(store, `user-${lengths[0]}`, encoder.hash),
      readUser(store, `user-${lengths[0]}`, workers.userStateEncoder!),
    ]);
    const result = rounded({
      model: path.basename(file),
      crossAttention: `fresh, before every ${every}th layer: latency does not depend on what was learned`,
      threads,
      int8,
      promptTokens: workers.tokenizer.chat(messages).length,
      tokensBehindPrefix: readingTokens,
      seed,
      ...results,
      concurrent,
      longestGapMs: Math.max(...Object.values(concurrent).map(({ longestGapMs }) => longestGapMs)),
      bytesPerUser: { embedding: embedding.byteLength, keysAndValues: state.byteLength },
      prefixBytes: prefix.bytes,
      machine: machineDescription(),
    });
    await workers.dispose();
    await store.close();
    const isUsual = Object.entries(usual).every(([name, value]) => values[name as keyof typeof usual] === value);
    if (isUsual && values.model === undefined) await keepSpeeds('latency', result, int8 ? 'int8' : undefined);
    console.log(JSON.stringify(result));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
