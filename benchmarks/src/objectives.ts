/**
 * `npm run bench -- objectives --data NAME [--steps N | --minutes N] [--seed N] [--seeds COUNT] [--probe-steps N] [--variants NAME,...]
 * [--threads N]`
 *
 * What pretraining is worth, and which objective: encoders of one shape, each trained for the same steps or minutes (one by default), rank
 * every item for the last event of every user, which nothing has seen, in two ways. By their own item head, where they have one; and by a probe
 * that learns from their K user tokens for `--probe-steps`, the encoder itself staying as it is, as a language model would read
 * them: it ranks for the untrained encoder and for contrastive training too. Every difference is paired user by user, with a 95 % bootstrap
 * interval and a sign-flip test; with several seeds it is one of means over seeds. `--variants next-event,dual-encoder` studies these two
 * alone, in a result of its own. Masked events need attention to both sides, and so learned positions. The last line is one JSON object; the
 * whole result is written to benchmarks/results/.
 */
import { mix, popularity } from '@user-llm/evaluation';
import { fitTokenizer, loadCorpus, openSource, UsageError, type Corpus } from '@user-llm/reference';
import { combine, contrastive, dualEncoder, maskedEvents, nextEvent } from '@user-llm/user-encoder';
import { baselineRanks, cleanSight, testRanks } from './study/held-out.js';
import { positive, studyOptions, type StudyOptions } from './study/options.js';
import { compared, figures, type CaseRanks, type Comparison } from './study/ranks.js';
import { runStudy, writeResult } from './study/result.js';
import { probeRanks } from './study/token-probe.js';
import { trained, untrained, type TrainingSummary, type Variant } from './study/training.js';

const contrastiveShare = 0.1;

interface Studied extends Variant {
  /** Whether the encoder's own head ranks items. */
  readonly ranks: boolean;
}

const random: Studied = { name: 'untrained', ranks: true };
const autoregressive: Studied = { name: 'next-event', ranks: true, training: { objective: nextEvent() } };
const others: readonly Studied[] = [
  // As if users took films again.
  { name: 'next-event-among-all', ranks: true, training: { objective: nextEvent({ repeats: 'allowed' }) } },
  { name: 'next-event-from-random-vectors', ranks: true, training: { objective: nextEvent(), itemVectors: 'as-they-are' } },
  { name: 'dual-encoder', ranks: true, training: { objective: dualEncoder() } },
  { name: 'masked-events', ranks: true, shape: { attention: 'bidirectional' }, training: { objective: maskedEvents() } },
  {
    name: 'next-event+contrastive',
    ranks: true,
    training: { objective: combine([nextEvent(), 1], [contrastive(), contrastiveShare]) },
  },
  { name: 'contrastive', ranks: false, training: { objective: contrastive() } },
];
const studied = [random, autoregressive, ...others];

/** Ranks by reading ('head' or 'probe') and variant, seed by seed. */
type AllRanks = Readonly<Record<'head' | 'probe', Map<string, CaseRanks[]>>>;

async function main(): Promise<void> {
  const further = { 'probe-steps': { type: 'string', default: '400' }, variants: { type: 'string' } } as const;
  const { options, own } = studyOptions('objectives', further, { minutes: 1 });
  const probeSteps = positive('probe-steps', own['probe-steps']);
  const variants = variantsOf(own.variants);
  const dataset = await openSource(options.folder, options.seeds[0]);
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  const ranks: AllRanks = { head: new Map(), probe: new Map() };
  const training: TrainingSummary[] = [];
  for (const seed of options.seeds)
    for (const variant of variants) await study(variant, { corpus, seed, probeSteps, options, ranks, training });
  const [seed] = options.seeds;
  const table = (found: Map<string, CaseRanks[]>): Record<string, unknown> =>
    Object.fromEntries([...found].map(([name, bySeed]) => [name, figures(bySeed, seed)]));
  const baselines = Object.fromEntries(
    [popularity(), mix()].map((system) => [system.name, figures([baselineRanks(system, corpus, cleanSight(corpus))], seed)]),
  );
  const comparisons = { head: comparisonsOf(ranks.head, seed), probe: comparisonsOf(ranks.probe, seed) };
  for (const reading of ['head', 'probe'] as const)
    console.table(Object.fromEntries([...ranks[reading]].map(([name, bySeed]) => [`${reading}: ${name}`, short(bySeed, seed)])));
  await writeResult(
    variants === studied ? 'objectives' : `objectives-${variants.map(({ name }) => name).join('-')}`,
    options,
    { probeSteps, training, head: table(ranks.head), probe: table(ranks.probe), baselines, comparisons },
    { comparisons },
  );
}

function variantsOf(names: string | undefined): readonly Studied[] {
  if (names === undefined) return studied;
  const wanted = names.split(',');
  const unknown = wanted.find((name) => !studied.some((variant) => variant.name === name));
  if (unknown !== undefined)
    throw new UsageError(`--variants ${unknown} is none of ${studied.map(({ name }) => name).join(', ')}`);
  return studied.filter(({ name }) => wanted.includes(name));
}

interface Study {
  readonly corpus: Corpus;
  readonly seed: number;
  readonly probeSteps: number;
  readonly options: StudyOptions;
  readonly ranks: AllRanks;
  readonly training: TrainingSummary[];
}

/** Trains one variant, and ranks by it. */
async function study(variant: Studied, { corpus, seed, probeSteps, options, ranks, training }: Study): Promise<void> {
  const { tokenizer, known } = corpus;
  const add = (to: Map<string, CaseRanks[]>, found: CaseRanks): unknown =>
    to.set(variant.name, [...(to.get(variant.name) ?? []), found]);
  let encoder = untrained(tokenizer, variant, seed, options);
  if (variant.training) {
    const made = await trained(tokenizer, known, variant, seed, options);
    encoder = made.encoder;
    training.push(made.summary);
  }
  if (variant.ranks) add(ranks.head, await testRanks(encoder, corpus));
  add(ranks.probe, await probeRanks(encoder, corpus, { steps: probeSteps, seed, threads: options.threads }));
  await encoder.dispose();
}

/** The paper's orderings first: pretrained against untrained, autoregressive against each other objective. */
function comparisonsOf(ranks: Map<string, CaseRanks[]>, seed: number): Record<string, Comparison> {
  const pairs = [random, ...others].map(({ name }) => [autoregressive.name, name] as const);
  return Object.fromEntries(
    pairs.flatMap(([ours, theirs]) => {
      const [a, b] = [ranks.get(ours), ranks.get(theirs)];
      return a && b ? [[`${ours} - ${theirs}`, compared(a, b, seed)]] : [];
    }),
  );
}

function short(bySeed: readonly CaseRanks[], seed: number): Record<string, string> {
  const { ci95, ...found } = figures(bySeed, seed);
  const text = (metric: 'recall@10' | 'ndcg@10'): string =>
    `${found[metric].toFixed(4)} (${ci95[metric].map((end) => end.toFixed(3)).join(' to ')})`;
  return { 'recall@10': text('recall@10'), 'ndcg@10': text('ndcg@10') };
}

runStudy(main);
