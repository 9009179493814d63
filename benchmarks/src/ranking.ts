/**
 * `npm run bench -- ranking [--requests N] [--threads N] [--training N]`
 *
 * A ranking request of a served language model: a beam of width 50 over the titles of the simulated film service, for prompts that hold
 * a history as text, with and without the user's embedding. `prefillShare` is the part of the time that the prompt took (the user's keys
 * and values are there already). The prompts take turns, request by request. The last line is one JSON object; it is also written to
 * benchmarks/results/ranking-PROCESSOR.json.
 *
 * `--training` is for how many steps the model is trained on the titles first: a beam is as wide as the model is undecided.
 */
import { gatedCrossAttention, LanguageModel, trainByteLevelBpe, type TrainableEncoder } from '@user-llm/cross-attention';
import { simulateFilmService } from '@user-llm/datasets';
import { machineDescription } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { keepSpeeds } from './record/results.js';

const lengths = [10, 120, 600, 1500];
const width = 50;
const shape = { width: 128, layers: 4, heads: 4, keyValueHeads: 2, intermediate: 384, context: 4096 };
const user = { userTokens: 16, width: 64, hash: 'a random user' };

interface Figures {
  readonly promptTokens: number;
  readonly embedding: boolean;
  readonly p50Ms: number;
  readonly fastestMs: number;
  /** Of the request's time, at the median. */
  readonly prefillShare: number;
  readonly steps: number;
  /** Tokens after the prompt. */
  readonly tokens: number;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const rounded = (value: number): number => Number(value.toPrecision(3));

async function trainedModel(titles: readonly string[], steps: number): Promise<LanguageModel> {
  const tokenizer = trainByteLevelBpe(titles, { vocabularySize: 2048, maximumLength: shape.context });
  const fresh = LanguageModel.create(shape, tokenizer, 1);
  const random = Random.of(1, 'histories');
  const texts = Array.from({ length: 4000 }, () =>
    Array.from({ length: 8 }, () => titles[random.integer(titles.length)]).join('\n'),
  );
  const training = { steps, batchSize: 16, sequenceLength: 128, learningRate: 6e-3, seed: 1 };
  const { model } = await fresh.pretrain(texts, training).result;
  // Serving needs no more of an encoder than what it is called and how large its users are.
  const encoder = { manifest: user } as unknown as TrainableEncoder<never>;
  return model.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 2, gate: 0.5 }) }).model;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      requests: { type: 'string', default: '15' },
      threads: { type: 'string', default: String(Math.min(2, os.availableParallelism())) },
      training: { type: 'string', default: '100' },
    },
  });
  const titles: string[] = [];
  for await (const { title } of simulateFilmService({ seed: 1 }).items) titles.push(title);
  const model = await trainedModel(titles, Number(values.training));
  const threads = Number(values.threads);
  const served = await model.serve({ threads });
  const trie = model.trie(titles);
  const random = Random.of(1, 'requests');
  const embedding = await served.userState({
    encoder: user.hash,
    dtype: 'float32',
    shape: [user.userTokens, user.width],
    data: Float32Array.from({ length: user.userTokens * user.width }, () => random.normal()),
  });
  const history: number[] = [];
  while (history.length < Math.max(...lengths))
    history.push(...model.tokenizer.encode(`${titles[random.integer(titles.length)]}\n`));

  const cases = [false, true].flatMap((withUser) => lengths.map((length) => ({ withUser, length })));
  const measured = cases.map(() => [] as { totalMs: number; firstTokenMs: number; steps: number; tokens: number }[]);
  // The first round makes the arena and the buffers, and does not count.
  for (let round = 0; round <= Number(values.requests); round++)
    for (const [i, { withUser, length }] of cases.entries()) {
      const request = { promptIds: history.slice(-length), trie, top: width, width, among: 'vocabulary' } as const;
      const ranking = await served.rank({ ...request, user: withUser ? embedding : undefined });
      if (round > 0) measured[i].push(ranking);
    }
  const rankings = cases.map(({ withUser, length }, i): Figures => {
    const totals = measured[i].map(({ totalMs }) => totalMs);
    const p50Ms = median(totals);
    return {
      promptTokens: length,
      embedding: withUser,
      p50Ms: rounded(p50Ms),
      fastestMs: rounded(Math.min(...totals)),
      prefillShare: rounded(median(measured[i].map(({ firstTokenMs, totalMs }) => firstTokenMs / totalMs))),
      steps: measured[i][0].steps,
      tokens: measured[i][0].tokens,
    };
  });
  await served.dispose();
  console.table(rankings);
  const result = { titles: titles.length, beam: width, model: shape, threads, rankings, machine: machineDescription() };
  await keepSpeeds('ranking', result);
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
