import { bytes, duration, flops, metric, pValue, short, whole } from './format.js';
import { markup, table } from './html.js';
import type { Html } from './html.js';
import { intervalPlot } from './interval-plot.js';
import { linePlot } from './line-plot.js';
import type { LinePlotOptions, Series } from './line-plot.js';
import type { NextItemMetrics } from './ranking-metrics.js';
import type { ReportData, SystemFigures, SystemRow, Versus } from './report-types.js';
import { stillFalling } from './training-curve.js';

const NOTHING = markup``;

/** Plot and tables of one task: first on the users that all systems answered, then, where that is a sample, on all users. */
export function qualitySection(report: ReportData, task: SystemRow['task']): Html {
  const rows = report.systems.filter((row) => row.task === task);
  if (rows.length === 0) return NOTHING;
  const asked = rows.find((row) => row.sample)?.sample?.users;
  // Of a small data set the sample is everybody: then nobody was left out, and there is nothing to show apart.
  const sample = asked === report.protocols[task]?.testUsers ? undefined : asked;
  const compared = rows.map((row): [SystemRow, SystemFigures] => [row, row.sample ?? row]);
  const ranking = task === 'next-item';
  const figure = (figures: SystemFigures): number | null | undefined =>
    ranking ? figures.filtered?.['recall@10'] : figures.accuracy;
  const marks = compared.flatMap(([row, figures]) => {
    const value = figure(figures);
    if (value == null) return [];
    const tone =
      row.kind === 'baseline'
        ? ('baseline' as const)
        : row.name.startsWith('user-llm')
          ? ('accent' as const)
          : ('system' as const);
    const interval = figures.ci95[ranking ? 'recall@10' : 'accuracy'] ?? null;
    return [{ name: row.name, value, interval, second: figures.unfiltered?.['recall@10'] ?? undefined, tone }];
  });
  const best = Math.max(0, ...marks.filter((mark) => mark.tone === 'baseline').map((mark) => mark.value));
  const users = compared[0][1].users;
  const title = ranking ? 'Which item comes next?' : 'Which genre is the favourite?';
  const what = ranking
    ? 'Recall@10: the share of users whose true next item is among the first ten of the whole catalogue.'
    : 'Accuracy: the share of users whose most frequent genre is named.';
  const whom =
    sample === undefined
      ? `Over ${whole(users)} test users.`
      : `All systems over the same seeded sample of ${whole(sample)} test users, because the slow ones cannot rank for everybody.`;
  const legend = markup`<ul class="legend"><li class="accent"><i></i>User-LLM</li><li class="system"><i></i>other models</li><li class="baseline"><i></i>baselines</li>${ranking && markup`<li class="baseline"><i class="ring"></i>unfiltered</li>`}<li>bar: 95 % interval; dashed: best baseline</li></ul>`;
  const fast = rows.filter((row) => !row.sampled && sample !== undefined);
  return markup`<section><h2>${title}</h2><p class="under">${what} ${whom}</p>
${intervalPlot(title, marks, best > 0 ? best : undefined)}${legend}
${(ranking ? rankingTable : accuracyTable)(compared)}
${fast.length > 0 && markup`<h3 class="apart">All ${whole(fast[0].users)} test users</h3><p class="under">Only the systems that are fast enough to rank for everybody. Not to be compared with the table above, row by row.</p>${(ranking ? rankingTable : accuracyTable)(fast.map((row) => [row, row]))}`}
${notes(rows, ranking ? [] : report.systems.filter((row) => row.task === 'next-item'))}</section>`;
}

function rankingTable(rows: readonly (readonly [SystemRow, SystemFigures])[]): Html {
  const cell = (
    filtered: NextItemMetrics | undefined,
    unfiltered: NextItemMetrics | undefined,
    key: keyof NextItemMetrics,
  ): Html | null =>
    filtered?.[key] == null ? null : markup`${metric(filtered[key])}<small>${metric(unfiltered?.[key])}</small>`;
  return table(
    ['', 'recall@1', 'recall@5', 'recall@10', '95 % interval', 'NDCG@10', 'MRR', 'against the best baseline'],
    rows.map(([row, { filtered, unfiltered, ci95, vs }]) => [
      row.name,
      cell(filtered, unfiltered, 'recall@1'),
      cell(filtered, unfiltered, 'recall@5'),
      cell(filtered, unfiltered, 'recall@10'),
      interval(ci95['recall@10']),
      cell(filtered, unfiltered, 'ndcg@10'),
      cell(filtered, unfiltered, 'mrr'),
      difference(vs),
    ]),
    'Large: filtered. Small below it: unfiltered.',
  );
}

function accuracyTable(rows: readonly (readonly [SystemRow, SystemFigures])[]): Html {
  return table(
    ['', 'accuracy', '95 % interval', 'macro F1', 'against the best baseline'],
    rows.map(([row, { accuracy, macroF1, ci95, vs }]) => [
      row.name,
      metric(accuracy),
      interval(ci95.accuracy),
      metric(macroF1),
      difference(vs),
    ]),
  );
}

const interval = (ends: readonly [number, number] | null | undefined): string | null =>
  ends ? `${ends[0].toFixed(3)} – ${ends[1].toFixed(3)}` : null;

const signed = (value: number, digits: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;

const difference = (vs: Versus | null): Html | null =>
  vs &&
  markup`${signed(vs.delta, 4)} ${vs.baseline}<small>${signed(vs.ci95[0], 3)} to ${signed(vs.ci95[1], 3)}, p ${pValue(vs.p)} (${pValue(vs.pHolm)})</small>`;

/** A system's remarks, once: not where an `earlier` section has them already. */
function notes(rows: readonly SystemRow[], earlier: readonly SystemRow[]): Html {
  const lines = rows.flatMap((row) => [
    ...(row.doesNotFit === undefined ? [] : [markup`<li><b>${row.name}</b> has no figures: ${row.doesNotFit}.</li>`]),
    ...(earlier.some((other) => other.name === row.name) ? [] : (row.notes ?? [])).map(
      (note) => markup`<li><b>${row.name}</b>: ${note}</li>`,
    ),
  ]);
  return lines.length > 0 ? markup`<ul class="how">${lines}</ul>` : NOTHING;
}

/** Latency against history length. */
export function scalingSection({ scaling = [] }: ReportData): Html {
  if (scaling.length === 0) return NOTHING;
  const line = (name: string, side: 'textPrompt' | 'userLlm', colour: number): Series => ({
    name,
    colour,
    marks: true,
    points: scaling.flatMap((row) => (row[side].p50Ms === null ? [] : [{ x: row.events, y: row[side].p50Ms }])),
  });
  const series = [line('history as text in the prompt', 'textPrompt', 1), line('User-LLM, embedding in the store', 'userLlm', 0)];
  const shape: LinePlotOptions = {
    title: 'Time to first token against history length',
    xLabel: 'events in the history',
    yLabel: 'time to first token, ms (log scale)',
    width: 720,
    height: 320,
    logY: true,
    xTicks: scaling.map((row) => row.events),
  };
  return markup`<section><h2>How long does a longer history take?</h2><p class="under">Median time to the first token, users with that many events, both sides interleaved; reading the store is counted.</p>
<div class="wide">${linePlot(series, shape)}</div><div class="narrow">${linePlot(series, { ...shape, width: 340, height: 260 })}</div>
${table(
  ['Events', 'text prompt, tokens', 'text prompt, ms', 'User-LLM, tokens', 'User-LLM, ms', 'ratio'],
  scaling.map((row) => [
    whole(row.events),
    short(row.textPrompt.tokens),
    short(row.textPrompt.p50Ms) ?? 'does not fit',
    short(row.userLlm.tokens),
    short(row.userLlm.p50Ms),
    row.ratio === null ? null : `${row.ratio.toFixed(1)}\u00d7`,
  ]),
)}</section>`;
}

/** What a request costs. */
export function costSection({ systems }: ReportData): Html {
  const measured = systems.filter((row) => row.latencyMs.p50 !== null);
  if (measured.length === 0) return NOTHING;
  return markup`<section><h2>What does a request cost?</h2><p class="under">One whole request, encoder and store included where the system uses them. FLOPs are 2mnk over the matrix products that run; a dash means the system does not count.</p>
${table(
  ['', 'task', 'latency p50, ms', 'p95, ms', 'tokens', 'FLOPs', 'examples seen', 'fit, s'],
  measured.map((row) => [
    row.name,
    row.task,
    short(row.latencyMs.p50),
    short(row.latencyMs.p95),
    row.tokensPerRequest === null ? null : whole(row.tokensPerRequest),
    flops(row.flopsPerRequest),
    row.examplesSeen === undefined ? null : whole(row.examplesSeen),
    short(row.fitSeconds),
  ]),
)}</section>`;
}

/** What a service pays that keeps text prompts for its users instead of embeddings. */
export function promptCacheSection({ promptCache: cache }: ReportData): Html {
  if (cache === undefined) return NOTHING;
  return markup`<section><h2>What if text prompts were cached?</h2><p class="under">The keys and values of each user's prompt kept in a store, over ${whole(cache.users)} users. The rankings are those of the whole prompt: ${whole(100 * cache.topShared)} % of the first ten are the same.</p>
${table(
  [
    '',
    'bytes per user',
    'written in, ms',
    'tokens kept',
    'tokens per request',
    'latency p50, ms',
    'p95, ms',
    'without the cache p50, ms',
  ],
  [
    [
      cache.system,
      bytes(cache.bytesPerUser),
      short(cache.writeMs),
      whole(cache.tokensKept),
      whole(cache.tokensPerRequest),
      short(cache.latencyMs.p50),
      short(cache.latencyMs.p95),
      short(cache.withoutCacheMs.p50),
    ],
  ],
)}</section>`;
}

/** How the models learned: one panel per trained system, and what was spent. */
export function trainingSection({ curves = [], training = [] }: ReportData): Html {
  const names = [...new Set(curves.map((curve) => curve.name))];
  if (names.length === 0 && training.length === 0) return NOTHING;
  const panels = names.map((name) => {
    const mine = curves.filter((curve) => curve.name === name);
    const told = training.findLast((record) => record.name === name && record.stillFalling !== undefined)?.stillFalling;
    const series = mine.map((curve): Series => ({
      name:
        curve.kind === 'validation' ? `validation${(told ?? stillFalling(curve.points)) ? ', still falling' : ''}` : 'training',
      colour: curve.kind === 'validation' ? 1 : 0,
      dashed: curve.kind !== 'validation',
      points: curve.points.map((point) => ({ x: point.seconds, y: point.loss })),
    }));
    const plot = linePlot(series, {
      title: `Loss of ${name} over time`,
      xLabel: 'seconds of training',
      yLabel: 'loss',
      width: 340,
      height: 220,
    });
    return markup`<div><h3>${name}</h3>${plot}</div>`;
  });
  const spent = training.map((record) => [
    record.name,
    record.seconds === undefined ? null : duration(record.seconds),
    record.steps === undefined ? null : whole(record.steps),
    record.examplesSeen === undefined ? null : whole(record.examplesSeen),
    record.parameters === undefined ? null : whole(record.parameters),
    record.strategy ?? null,
    markup`<span class="words">${record.notes?.join(' ') ?? ''}</span>`,
  ]);
  return markup`<section><h2>How did they learn?</h2><p class="under">Loss over wall-clock time. Losses of different models are not comparable with each other.</p>
<div class="panels">${panels}</div>
${spent.length > 0 && table(['', 'time', 'steps', 'examples seen', 'trained parameters', 'strategy', ''], spent)}</section>`;
}
