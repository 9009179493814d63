import { expect, test } from '@jest/globals';
import {
  accuracy,
  averagePrecision,
  benjaminiHochberg,
  bootstrap,
  chrf,
  confusion,
  corpusBleu,
  corpusChrf,
  holm,
  logLoss,
  macroF1,
  mean,
  percentile,
  rankingScores,
  rocAuc,
  rouge,
  signFlipTest,
  spearman,
} from '../src/index.js';
import type { Overlap } from '../src/index.js';
import { describeWith, sharedJson } from './support/shared.js';

describeWith('fixtures/metrics/ranking.json', 'ranking metrics are equal to ranx', () => {
  const { users, mean: means } = sharedJsonOnce<{
    users: { ranking: number[]; relevant: number[]; metrics: Record<string, number> }[];
    mean: Record<string, number>;
  }>('fixtures/metrics/ranking.json');
  test.each([1, 5, 10, 20])('at %i, user by user and on average', (k) => {
    const scores = users().map(({ ranking, relevant }) => rankingScores(ranking, new Set(relevant), k));
    const named = {
      hit_rate: 'hitRate',
      recall: 'recall',
      precision: 'precision',
      ndcg: 'ndcg',
      mrr: 'mrr',
      map: 'map',
    } as const;
    for (const [theirs, ours] of Object.entries(named) as [string, (typeof named)[keyof typeof named]][]) {
      users().forEach((user, i) => expect(scores[i][ours]).toBeCloseTo(user.metrics[`${theirs}@${k}`], 8));
      expect(mean(scores.map((score) => score[ours]))).toBeCloseTo(means()[`${theirs}@${k}`], 8);
    }
  });
});

describeWith('fixtures/metrics/classification.json', 'classification metrics are equal to scikit-learn', () => {
  interface Fixture {
    multiclass: {
      labels: number[];
      probabilities: number[][];
      accuracy: number;
      macro_f1: number;
      log_loss: number;
      confusion: number[][];
    };
    binary: { labels: number[]; scores: number[]; roc_auc: number; average_precision: number };
  }
  const fixture = sharedJsonOnce<Fixture>('fixtures/metrics/classification.json');
  test('of several classes', () => {
    const { labels, probabilities, ...expected } = fixture.multiclass();
    const predictions = probabilities.map((row) => row.indexOf(Math.max(...row)));
    expect(accuracy(labels, predictions)).toBeCloseTo(expected.accuracy, 12);
    expect(macroF1(labels, predictions)).toBeCloseTo(expected.macro_f1, 12);
    expect(logLoss(labels, probabilities)).toBeCloseTo(expected.log_loss, 12);
    expect(confusion(labels, predictions, expected.confusion.length)).toEqual(expected.confusion);
  });
  test('of two, with tied scores', () => {
    const { labels, scores, ...expected } = fixture.binary();
    expect(rocAuc(labels, scores)).toBeCloseTo(expected.roc_auc, 12);
    expect(averagePrecision(labels, scores)).toBeCloseTo(expected.average_precision, 12);
  });
});

describeWith('fixtures/metrics/rouge.json', 'ROUGE is equal to rouge-score', () => {
  type Triple = [precision: number, recall: number, f1: number];
  interface Case {
    stemmer: boolean;
    target: string;
    prediction: string;
    rouge1: Triple;
    rouge2: Triple;
    rougeL: Triple;
    rougeLsum: Triple;
  }
  const fixture = sharedJsonOnce<{ cases: Case[] }>('fixtures/metrics/rouge.json');
  test.each([true, false])('with stemming: %s', (stemmer) => {
    const cases = fixture.cases().filter((one) => one.stemmer === stemmer);
    expect(cases.length).toBeGreaterThan(40);
    for (const { target, prediction, ...expected } of cases) {
      const found = rouge(target, prediction, { stemmer });
      const triple = ({ precision, recall, f1 }: Overlap): Triple =>
        [precision, recall, f1].map((value) => Number(value.toFixed(9))) as Triple;
      for (const kind of ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const) {
        expect({ target, kind, scores: triple(found[kind]) }).toEqual({ target, kind, scores: expected[kind] });
      }
    }
  });
});

describeWith('fixtures/metrics/bleu-chrf.json', 'BLEU and chrF are equal to sacrebleu', () => {
  const fixture = sharedJsonOnce<{
    references: string[];
    hypotheses: string[];
    corpus_bleu: number;
    corpus_chrf: number;
    sentence_chrf: number[];
  }>('fixtures/metrics/bleu-chrf.json');
  test('of a corpus', () => {
    expect(corpusBleu(fixture.references(), fixture.hypotheses())).toBeCloseTo(fixture.corpus_bleu(), 10);
    expect(corpusChrf(fixture.references(), fixture.hypotheses())).toBeCloseTo(fixture.corpus_chrf(), 10);
  });
  test('sentence by sentence', () => {
    fixture
      .references()
      .forEach((reference, i) => expect(chrf(reference, fixture.hypotheses()[i])).toBeCloseTo(fixture.sentence_chrf()[i], 9));
  });
});

describeWith('fixtures/metrics/statistics.json', 'statistics are equal to scipy, statsmodels and numpy', () => {
  interface Fixture {
    sign_flip_exact: { differences: number[]; p_two_sided: number };
    holm: { p: number[]; adjusted: number[] };
    benjamini_hochberg: number[];
    spearman: { x: number[]; y: number[]; rho: number };
    percentile_linear: { x: number[]; p50: number; p95: number; p99: number };
    bootstrap_mean_bca: { x: number[]; low: number; high: number; tolerance: number };
  }
  const fixture = sharedJsonOnce<Fixture>('fixtures/metrics/statistics.json');
  const close = (found: readonly number[], expected: readonly number[]): void =>
    found.forEach((value, i) => expect(value).toBeCloseTo(expected[i], 12));

  test('exact sign-flip test', () => {
    const { differences, p_two_sided } = fixture.sign_flip_exact();
    expect(signFlipTest(differences, { seed: 1 })).toEqual({ p: p_two_sided, exact: true });
  });
  test('sign-flip test by random patterns comes close to the exact one', () => {
    const { differences, p_two_sided } = fixture.sign_flip_exact();
    const { p, exact } = signFlipTest(differences, { seed: 1, exactUpTo: 0, resamples: 20_000 });
    expect(exact).toBe(false);
    expect(Math.abs(p - p_two_sided)).toBeLessThan(0.015);
  });
  test('Holm, Benjamini and Hochberg', () => {
    close(holm(fixture.holm().p), fixture.holm().adjusted);
    close(benjaminiHochberg(fixture.holm().p), fixture.benjamini_hochberg());
  });
  test('Spearman and percentiles', () => {
    const { x, p50, p95, p99 } = fixture.percentile_linear();
    close([percentile(x, 50), percentile(x, 95), percentile(x, 99)], [p50, p95, p99]);
    expect(spearman(fixture.spearman().x, fixture.spearman().y)).toBeCloseTo(fixture.spearman().rho, 12);
  });
  test('BCa interval of a mean, within the tolerance of the fixture', () => {
    const { x, low, high, tolerance } = fixture.bootstrap_mean_bca();
    const found = bootstrap(x, { seed: 1, resamples: 20_000, method: 'bca' });
    expect(Math.abs(found[0] - low)).toBeLessThan(tolerance);
    expect(Math.abs(found[1] - high)).toBeLessThan(tolerance);
  });
});

/** Reads a fixture when its first test runs, so that a skipped group never touches the file. */
function sharedJsonOnce<T extends object>(file: string): { [K in keyof T]: () => T[K] } {
  let read: T | undefined;
  return new Proxy({} as { [K in keyof T]: () => T[K] }, {
    get: (_, key) => () => (read ??= sharedJson<T>(file))[key as keyof T],
  });
}
