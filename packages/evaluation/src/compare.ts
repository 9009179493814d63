import { bootstrap } from './bootstrap.js';
import type { Interval } from './bootstrap.js';
import { accuracy, macroF1 } from './classification-metrics.js';
import { mean, percentile } from './descriptive.js';
import { InvalidOptionError } from './errors.js';
import { holm } from './multiple-testing.js';
import type { Outcome } from './outcome.js';
import { gainAt, hitAt, nextItemMetrics, NO_METRICS } from './ranking-metrics.js';
import type { SystemFigures, SystemRow, Versus } from './report-types.js';
import { signFlipTest } from './sign-flip.js';

/**
 * One row per outcome: figures, intervals, and the comparison with the best baseline.
 *
 * @throws InvalidOptionError where samples of one task have no user in common
 */
export function rowsOf(outcomes: readonly Outcome[], seed: number): SystemRow[] {
  const samples = new Map([...new Set(outcomes.map(({ task }) => task))].map((task) => [task, sampleOf(outcomes, task)]));
  const rows = outcomes.map((outcome): SystemRow => {
    const peers = outcomes.filter((other) => other.task === outcome.task);
    const sample = samples.get(outcome.task);
    return {
      name: outcome.system,
      task: outcome.task,
      kind: outcome.kind,
      users: outcome.users.length,
      sampled: outcome.sampled,
      ...figures(outcome, outcome.users, seed),
      vs: versus(outcome, outcome.users, peers, seed),
      ...(sample && covers(outcome, sample)
        ? { sample: { users: sample.length, ...figures(outcome, sample, seed), vs: versus(outcome, sample, peers, seed) } }
        : {}),
      latencyMs: outcome.latencyMs.length
        ? { p50: percentile(outcome.latencyMs, 50), p95: percentile(outcome.latencyMs, 95) }
        : { p50: null, p95: null },
      tokensPerRequest: outcome.tokensPerRequest,
      flopsPerRequest: outcome.flopsPerRequest,
      ...(outcome.fitSeconds === undefined ? {} : { fitSeconds: outcome.fitSeconds }),
      ...(outcome.doesNotFit === undefined ? {} : { doesNotFit: outcome.doesNotFit }),
      ...(outcome.examplesSeen === undefined ? {} : { examplesSeen: outcome.examplesSeen }),
      ...(outcome.notes === undefined ? {} : { notes: outcome.notes }),
    };
  });
  return adjusted(rows);
}

/** The users that every system of a sample was asked about: samples of one seed hold each other, but may be of several sizes. */
function sampleOf(outcomes: readonly Outcome[], task: Outcome['task']): readonly number[] | undefined {
  const [first, ...others] = outcomes.filter((outcome) => outcome.task === task && outcome.sampled);
  if (first === undefined) return undefined;
  let common = first.users;
  for (const other of others) {
    if (covers(other, common)) continue;
    const asked = new Set(other.users);
    common = common.filter((user) => asked.has(user));
  }
  if (common.length > 0) return common;
  const names = [first, ...others].map(({ system }) => `"${system}"`).join(', ');
  throw new InvalidOptionError(
    'sample',
    `${names} were asked of samples of ${task} that have no user in common; evaluate them with the same seed.`,
  );
}

/** The figure that systems are compared by, user by user: a hit in the first ten, or a right label. */
function scores(outcome: Outcome, users: readonly number[]): Float64Array {
  const ranks = outcome.filteredRanks;
  if (ranks) return Float64Array.from(positions(outcome, users), (i) => hitAt(ranks[i], 10));
  const { predictions = [], truth = [] } = outcome;
  return Float64Array.from(positions(outcome, users), (i) => (predictions[i] === truth[i] ? 1 : 0));
}

function figures(outcome: Outcome, users: readonly number[], seed: number): Omit<SystemFigures, 'users' | 'vs'> {
  const at = positions(outcome, users);
  const fits = outcome.doesNotFit === undefined;
  if (outcome.task === 'next-item') {
    if (!fits) return { filtered: NO_METRICS, unfiltered: NO_METRICS, ci95: { 'recall@10': null, 'ndcg@10': null } };
    const filtered = at.map((i) => (outcome.filteredRanks as readonly number[])[i]);
    const unfiltered = at.map((i) => (outcome.unfilteredRanks as readonly number[])[i]);
    return {
      filtered: nextItemMetrics(filtered, outcome.depth),
      unfiltered: nextItemMetrics(unfiltered, outcome.depth),
      ci95: {
        'recall@10': bootstrap(scores(outcome, users), { seed }),
        'ndcg@10': bootstrap(
          filtered.map((rank) => gainAt(rank, 10)),
          { seed },
        ),
      },
    };
  }
  if (!fits) return { accuracy: null, macroF1: null, ci95: { accuracy: null } };
  const predictions = at.map((i) => (outcome.predictions as readonly number[])[i]);
  const truth = at.map((i) => (outcome.truth as readonly number[])[i]);
  return {
    accuracy: accuracy(truth, predictions),
    macroF1: macroF1(truth, predictions),
    ci95: { accuracy: bootstrap(scores(outcome, users), { seed }) },
  };
}

/**
 * The baseline that is best on the very same users, and the paired difference. Choosing the best on the same users
 * favours the baseline, never the system.
 */
function versus(outcome: Outcome, users: readonly number[], peers: readonly Outcome[], seed: number): Versus | null {
  if (outcome.doesNotFit !== undefined) return null;
  const own = scores(outcome, users);
  let best: { name: string; scores: Float64Array; mean: number } | undefined;
  for (const other of peers) {
    if (other.kind !== 'baseline' || other === outcome || other.doesNotFit !== undefined || !covers(other, users)) continue;
    const theirs = scores(other, users);
    const average = mean(theirs);
    if (!best || average > best.mean) best = { name: other.system, scores: theirs, mean: average };
  }
  if (!best || (outcome.kind === 'baseline' && mean(own) >= best.mean)) return null;
  const theirs = best.scores;
  const differences = own.map((score, i) => score - theirs[i]);
  const ci95: Interval = bootstrap(differences, { seed });
  const { p } = signFlipTest(differences, { seed });
  return { baseline: best.name, delta: mean(differences), ci95, p, pHolm: p, users: users.length };
}

/** Holm's adjustment over the comparisons of each task, those on the sample apart. */
function adjusted(rows: readonly SystemRow[]): SystemRow[] {
  const corrected = new Map<Versus, Versus>();
  for (const task of new Set(rows.map((row) => row.task))) {
    for (const pick of [(row: SystemRow) => row.vs, (row: SystemRow) => row.sample?.vs]) {
      const compared = rows.flatMap((row) => (row.task === task ? (pick(row) ?? []) : []));
      holm(compared.map((vs) => vs.p)).forEach((pHolm, i) => corrected.set(compared[i], { ...compared[i], pHolm }));
    }
  }
  const of = (vs: Versus | null): Versus | null => (vs ? (corrected.get(vs) ?? vs) : null);
  return rows.map((row) => ({
    ...row,
    vs: of(row.vs),
    ...(row.sample ? { sample: { ...row.sample, vs: of(row.sample.vs) } } : {}),
  }));
}

/** Where in the outcome each user stands; both lists ascend. */
function positions(outcome: Outcome, users: readonly number[]): number[] {
  if (outcome.users === users) return users.map((_, i) => i);
  const index = new Map(outcome.users.map((user, i) => [user, i]));
  return users.map((user) => index.get(user) as number);
}

function covers(outcome: Outcome, users: readonly number[]): boolean {
  if (outcome.users === users) return true;
  const known = new Set(outcome.users);
  return users.every((user) => known.has(user));
}
