/**
 * `npm run bench -- noise --data NAME [--rates 0.1,0.3,0.5] [--steps N | --minutes N] [--seed N] [--seeds COUNT] [--threads N]`
 *
 * What noise in the log costs, and what augmentation is worth against it. Encoders are trained, each for the same steps or minutes (one by
 * default), on the clean log and on logs of which a share of the events was dropped, duplicated, shuffled locally or corrupted; each with
 * and without augmentation. They read equally noisy histories and rank every item for each user's last event, which no noise
 * touches and nothing has seen, the clean history left out of the ranking, so that the question is the same everywhere. The noise is
 * made in the raw rows, which are then encoded like any others, by the tokenizer of the clean log. Mix, which counts the same noisy logs,
 * stands beside them. Differences are paired user by user; with several seeds, each has its own noise and weights. The last line is one JSON
 * object; the whole result is written to benchmarks/results/.
 */
import { interactions, mix } from '@user-llm/evaluation';
import type { EventColumns } from '@user-llm/event-tokenizer';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '@user-llm/reference';
import { baselineRanks, testRanks } from './study/held-out.js';
import { noises, RawLog, type Noise } from './study/noise.js';
import { shares, studyOptions, type StudyOptions } from './study/options.js';
import { compared, figures, type CaseRanks, type Comparison, type Figures } from './study/ranks.js';
import { runStudy, writeResult } from './study/result.js';
import { trained, type TrainingSummary, type Variant } from './study/training.js';

/** The same for every noise and rate: who trains on a log does not know what is wrong with it. */
const augmentation = { crop: 0.3, drop: 0.1, swap: 0.1, corrupt: 0.1 } as const;

const systems = ['plain', 'augmented', 'mix'] as const;
type SystemName = (typeof systems)[number];

interface Point {
  readonly noise: Noise | 'none';
  readonly rate: number;
  readonly ranks: Readonly<Record<SystemName, CaseRanks[]>>;
}

interface CurvePoint {
  readonly noise: string;
  readonly rate: number;
  readonly systems: Readonly<Record<SystemName, Figures>>;
  /** Against the same system on the clean log. */
  readonly lost?: Readonly<Record<SystemName, Comparison>>;
  readonly augmentedMinusPlain: Comparison;
}

async function main(): Promise<void> {
  const { options, own } = studyOptions('noise', { rates: { type: 'string', default: '0.1,0.3,0.5' } }, { minutes: 1 });
  const rates = shares('rates', own.rates).filter((rate) => rate > 0);
  const [firstSeed] = options.seeds;
  const dataset = await openSource(options.folder, firstSeed);
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  const raw = await RawLog.read(dataset, corpus);
  const kinds = Object.keys(noises) as Noise[];
  const points = [{ noise: 'none' as const, rate: 0 }, ...kinds.flatMap((noise) => rates.map((rate) => ({ noise, rate })))].map(
    (at): Point => ({ ...at, ranks: { plain: [], augmented: [], mix: [] } }),
  );
  const training: TrainingSummary[] = [];
  for (const seed of options.seeds)
    for (const point of points) {
      // Dropping nothing leaves the clean log.
      const logs = await raw.noisy(point.noise === 'none' ? 'dropped' : point.noise, point.rate, seed);
      await measure(point, logs, { corpus, seed, options, training });
    }
  const [clean] = points;
  const curve = points.map((point): CurvePoint => {
    const of = <T>(pick: (name: SystemName) => T): Record<SystemName, T> => ({
      plain: pick('plain'),
      augmented: pick('augmented'),
      mix: pick('mix'),
    });
    return {
      noise: point.noise,
      rate: point.rate,
      systems: of((name) => figures(point.ranks[name], firstSeed)),
      ...(point !== clean && { lost: of((name) => compared(clean.ranks[name], point.ranks[name], firstSeed)) }),
      augmentedMinusPlain: compared(point.ranks.augmented, point.ranks.plain, firstSeed),
    };
  });
  console.table(curve.map(row));
  await writeResult('noise', options, { noises, augmentation, training, curve }, { curve: curve.map(row) });
}

type NoisyLogs = Awaited<ReturnType<RawLog['noisy']>>;

interface Study {
  readonly corpus: Corpus;
  readonly seed: number;
  readonly options: StudyOptions;
  readonly training: TrainingSummary[];
}

async function measure(point: Point, logs: NoisyLogs, { corpus, seed, options, training }: Study): Promise<void> {
  const name = `${point.noise} ${point.rate}`;
  const variants: readonly (Variant & { system: 'plain' | 'augmented' })[] = [
    { system: 'plain', name: `${name}, plain` },
    { system: 'augmented', name: `${name}, augmented`, training: { augmentation } },
  ];
  for (const variant of variants) {
    const { encoder, summary } = await trained(corpus.tokenizer, logs.train, variant, seed, options);
    training.push(summary);
    point.ranks[variant.system].push(await testRanks(encoder, corpus, logs.shown));
    await encoder.dispose();
  }
  const counted = logOf(corpus, logs.learned);
  const sight = { train: { log: counted, end: counted.offsets.subarray(1) }, shown: logOf(corpus, logs.shown) };
  point.ranks.mix.push(baselineRanks(mix(), corpus, sight));
}

const logOf = ({ tokenizer }: Corpus, events: EventColumns): ReturnType<typeof interactions> =>
  interactions(events, { itemField: tokenizer.itemField, vocabulary: [...tokenizer.vocabulary(tokenizer.itemField)] });

/** One line of the curve: recall@10 with its interval, and what augmentation adds. */
function row({ noise, rate, systems: found, augmentedMinusPlain }: CurvePoint): Record<string, unknown> {
  const text = ({ 'recall@10': recall, ci95 }: Figures): string =>
    `${recall.toFixed(4)} (${ci95['recall@10'].map((end) => end.toFixed(3)).join(' to ')})`;
  const { delta, p } = augmentedMinusPlain['recall@10'];
  return {
    noise,
    rate,
    ...Object.fromEntries(systems.map((name) => [name, text(found[name])])),
    'augmented - plain': `${delta.toFixed(4)} (p ${p.toFixed(3)})`,
  };
}

runStudy(main);
