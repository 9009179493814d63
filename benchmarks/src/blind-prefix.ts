/**
 * `npm run bench -- blind-prefix [--steps N] [--pretraining N] [--reading 8,4,1] [--users N] [--items N] [--seed N] [--seeds COUNT]
 * [--threads N]`
 *
 * What a blind prefix costs in quality: one small language model and one pretrained encoder are adapted on simulated users' next items, on
 * the same batches for the same steps, once with every token of the prompt reading the user and once for each number of reading tokens.
 * Then all items are ranked for each user's held-out last event, those met before left out. Differences are paired user by user; with
 * several seeds each has its own weights and batches. The last line is one JSON object; the whole result is written to benchmarks/results/.
 */
import { LanguageModel, gatedCrossAttention, trainByteLevelBpe } from '@user-llm/cross-attention';
import type { BlindPrefix, ChatMessage, ReadableEmbedding } from '@user-llm/cross-attention';
import { simulateFilmService } from '@user-llm/datasets';
import { Random } from '@user-llm/onnx-autograd';
import { encoderShape, fitTokenizer, loadCorpus, pretrainingRate, type Corpus } from '@user-llm/reference';
import { UserEncoder } from '@user-llm/user-encoder';
import { commandLine, positive } from './study/options.js';
import { compared, figures, rankOf, type CaseRanks } from './study/ranks.js';
import { runStudy, writeResult } from './study/result.js';

const messages: readonly ChatMessage[] = [
  {
    role: 'system',
    content:
      'You work for a film service. Every night you name one film that fits the taste of the person who asks, and you say nothing else. Name a film that the service has.',
  },
  { role: 'user', content: 'What is next?' },
];

const size = { width: 64, layers: 4, heads: 2, intermediate: 192, context: 256 };
const batch = { users: 16, moments: 4 };

interface Variant {
  readonly name: string;
  readonly blindPrefix?: BlindPrefix;
}

interface Study {
  readonly corpus: Corpus;
  readonly steps: number;
  readonly pretraining: number;
  readonly threads: number;
}

async function main(): Promise<void> {
  const values = commandLine({
    steps: { type: 'string', default: '300' },
    pretraining: { type: 'string', default: '300' },
    reading: { type: 'string', default: '8,4,1' },
    users: { type: 'string', default: '600' },
    items: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '2' },
    threads: { type: 'string', default: '1' },
  });
  const first = positive('seed', values.seed);
  const seeds = Array.from({ length: positive('seeds', values.seeds) }, (_, i) => first + i);
  const variants: readonly Variant[] = [
    { name: 'every token reads' },
    ...values.reading.split(',').map((text) => ({
      name: `last ${text}`,
      blindPrefix: { readingTokens: positive('reading', text) },
    })),
  ];
  const users = positive('users', values.users);
  const dataset = simulateFilmService({ seed: first, users, items: positive('items', values.items) });
  const study: Study = {
    corpus: await loadCorpus(dataset, await fitTokenizer(dataset)),
    steps: positive('steps', values.steps),
    pretraining: positive('pretraining', values.pretraining),
    threads: positive('threads', values.threads),
  };
  const ranks = new Map<string, CaseRanks[]>(variants.map(({ name }) => [name, []]));
  let promptTokens = 0;
  for (const seed of seeds) {
    const { base, promptIds, encoder } = await prepared(study, seed);
    promptTokens = promptIds.length;
    for (const variant of variants) ranks.get(variant.name)!.push(await measured(study, variant, seed, base, promptIds, encoder));
    await encoder.dispose();
  }
  const baseline = ranks.get(variants[0].name)!;
  const found = variants.map(({ name }, i) => ({
    reading: name,
    ...figures(ranks.get(name)!, first),
    ...(i > 0 && { minusEveryToken: compared(ranks.get(name)!, baseline, first) }),
  }));
  const command = ['npm run bench -- blind-prefix', ...process.argv.slice(2)].join(' ');
  const options = { command, data: 'simulated', folder: '', budget: { steps: study.steps }, seeds, threads: study.threads };
  await writeResult('blind-prefix', options, { promptTokens, size, batch, variants: found }, { promptTokens, variants: found });
}

/** What every variant of a seed starts from. */
async function prepared({ corpus, pretraining, threads }: Study, seed: number) {
  const { titles, tokenizer, log } = corpus;
  const words = messages.map(({ content }) => content);
  const text = trainByteLevelBpe([...titles, ...titles.flatMap(() => words)], { vocabularySize: 1024 });
  const fresh = LanguageModel.create(size, text, seed);
  const { model } = await fresh.pretrain(titles, { steps: pretraining, seed, learningRate: 3e-3, batchSize: 16, threads }).result;
  const base = model.withItemTokens(log.itemIds.map((id, i) => ({ id, text: titles[i] })));
  const encoder = await UserEncoder.create(tokenizer, { ...encoderShape(tokenizer), seed }, { threads }).pretrain(corpus.train, {
    steps: pretraining,
    ...pretrainingRate,
    threads,
  }).result;
  return { base, encoder, promptIds: base.tokenizer.chat(messages) };
}

/** Ranks of every test user's last item by one adapted model. */
async function measured(
  { corpus, steps, threads }: Study,
  { name, blindPrefix }: Variant,
  seed: number,
  base: LanguageModel,
  promptIds: readonly number[],
  encoder: UserEncoder,
): Promise<CaseRanks> {
  const { log, split, known } = corpus;
  const adaptable = base.withUserEmbeddings({
    encoder: encoder.trainable(known),
    integration: gatedCrossAttention({ every: 1, gate: 0.5 }),
    ...(blindPrefix && { blindPrefix }),
    seed,
  });
  const run = adaptable.adapt((step) => moments(corpus, seed, step, promptIds), {
    strategy: 'full',
    steps,
    seed,
    learningRate: 3e-3,
    encoderRate: 0.1,
    threads,
  });
  const { model, encoder: adapted, record } = await run.result;
  process.stderr.write(`seed ${seed}, ${name}: loss ${record.curve.at(-1)?.loss.toFixed(3)} after ${record.steps} steps\n`);
  const reader = adapted as UserEncoder;
  const embeddings = new Map<string, ReadableEmbedding>();
  for await (const embedding of reader.encode(known)) embeddings.set(embedding.user, embedding);
  const served = await model.serve({ threads });
  const ranks: number[] = [];
  for (const one of split.test) {
    const user = embeddings.get(log.users[one.user]);
    const { items, scores } = await served.rank({ promptIds, user, by: 'item-tokens', top: log.itemIds.length });
    const all = new Float64Array(log.itemIds.length);
    items.forEach((item, i) => (all[item] = scores[i]));
    ranks.push(rankOf(all, log.items[one.to], log.items.subarray(one.from, one.to)));
  }
  await served.dispose();
  await model.dispose();
  return ranks;
}

/** The batch of a step: moments of some users' training events, each asking for the item that came next. */
function moments({ train, log }: Corpus, seed: number, step: number, promptIds: readonly number[]) {
  const random = Random.of(seed, 'moments', step);
  const examples = [];
  while (examples.length < batch.users * batch.moments) {
    const user = random.integer(log.users.length);
    const length = train.offsets[user + 1] - train.offsets[user];
    if (length < 2) continue;
    for (let i = 0; i < batch.moments; i++) {
      const end = 1 + random.integer(length - 1);
      const item = log.items[log.offsets[user] + end];
      if (item >= 0) examples.push({ history: { user, end }, promptIds, answerIds: [], items: [{ item }] });
    }
  }
  return examples;
}

runStudy(main);
