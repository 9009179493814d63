import { rm } from 'node:fs/promises';
import { openStore } from '@user-llm/embedding-store';
import { percentile, type PromptCacheFigures } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from '../corpus.js';
import { nextQuestions } from '../prompts.js';
import type { LanguageSystem } from '../systems/language-system.js';
import { PromptCache } from '../systems/prompt-cache.js';
import type { Workspace } from '../workspace.js';
import { testsWithItemsLeft } from './test-questions.js';

const usersMeasured = 10;
const rounds = 3;
const top = 10;

/**
 * Ranks for some users behind their cached prompts and behind whole ones, in turn, each after a round that is not counted.
 *
 * @returns undefined where every user has met every item
 */
export async function measurePromptCache(
  workspace: Workspace,
  corpus: Corpus,
  text: LanguageSystem,
): Promise<PromptCacheFigures | undefined> {
  const { output, run, seed, signal } = workspace;
  const progress = output.progress('prompt-cache', 'text prompts from a cache');
  const cases = Random.of(seed, 'prompt cache').shuffle(testsWithItemsLeft(corpus)).slice(0, usersMeasured);
  if (cases.length === 0) {
    progress.done('every user has met every item');
    return undefined;
  }
  const folder = run.path('prompt-caches');
  const store = await openStore(`lmdb:${folder}`);
  const cache = new PromptCache(store, text.served);
  const kept: number[] = [];
  const left: number[] = [];
  const bytes: number[] = [];
  const writeMs: number[] = [];
  const cachedMs: number[] = [];
  const wholeMs: number[] = [];
  let shared = 0;
  try {
    for (const [done, { user, from, to }] of cases.entries()) {
      signal.throwIfAborted();
      const history = corpus.log.items.subarray(from, to).filter((item) => item >= 0);
      const promptIds = text.promptIds(history, nextQuestions[0]);
      const tokens = commonLength(promptIds, text.promptIds(history, nextQuestions[1]));
      const name = corpus.known.users[user];
      let began = performance.now();
      const watermark = { time: corpus.known.times[corpus.known.offsets[user + 1] - 1], count: to - from };
      bytes.push(await cache.put({ user: name, tokenizer: corpus.tokenizer.hash, watermark }, promptIds, tokens));
      writeMs.push(performance.now() - began);
      kept.push(tokens);
      left.push(promptIds.length - tokens);
      const request = { by: 'model', exclude: new Set(history), top, signal } as const;
      for (let round = 0; round <= rounds; round++) {
        began = performance.now();
        const prefix = await cache.get(name, promptIds, tokens);
        if (prefix === undefined) throw new Error('internal: the prompt that was just kept is not there');
        const cached = await text.rank(user, history, { ...request, prefix });
        const between = performance.now();
        const whole = await text.rank(user, history, request);
        if (round === 0) continue;
        cachedMs.push(between - began);
        wholeMs.push(performance.now() - between);
        if (round === rounds) shared += cached.items.filter((item) => whole.items.includes(item)).length / whole.items.length;
      }
      progress.update({ fraction: (done + 1) / cases.length });
    }
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = (values: readonly number[]) => ({ p50: percentile(values, 50), p95: percentile(values, 95) });
  const figures = {
    system: `${text.spec.name}+cache`,
    users: cases.length,
    tokensKept: mean(kept),
    tokensPerRequest: mean(left),
    bytesPerUser: mean(bytes),
    writeMs: mean(writeMs),
    latencyMs: spread(cachedMs),
    withoutCacheMs: spread(wholeMs),
    topShared: shared / cases.length,
  };
  progress.done(
    `${(figures.bytesPerUser / 1e6).toFixed(1)} MB per user, ${figures.latencyMs.p50.toFixed(1)} ms in place of ${figures.withoutCacheMs.p50.toFixed(1)} ms`,
  );
  return figures;
}

/** How many tokens two prompts begin with alike. */
function commonLength(one: readonly number[], other: readonly number[]): number {
  const parting = one.findIndex((id, i) => id !== other[i]);
  return parting < 0 ? Math.min(one.length, other.length) - 1 : parting;
}
