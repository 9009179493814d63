import type { Interval } from './bootstrap.js';
import { Html, markup, table } from './html.js';
import { STYLE } from './report-style.js';
import { scatterPlot } from './scatter-plot.js';
import { writeAtomic } from './write-atomic.js';

/** One thing that was measured: how good it is, and what it costs. */
export interface TradeOffPoint {
  readonly name: string;
  /** points of a series have one colour and are joined */
  readonly series: string;
  readonly value: number;
  /** 95 %; null where there is none */
  readonly interval: Interval | null;
  /** by the keys of the section's `costs`; above zero */
  readonly costs: Readonly<Record<string, number>>;
}

/** Quality against each of several costs, a plot for each, and the figures in a table. */
export interface TradeOffSection {
  readonly title: string;
  /** what is measured, on whom */
  readonly text: string;
  /** name of the quality, for example recall@10 */
  readonly quality: string;
  readonly costs: readonly { readonly key: string; readonly label: string }[];
  readonly points: readonly TradeOffPoint[];
  /** drawn as dashed lines: what the points have to beat */
  readonly references?: readonly { readonly name: string; readonly value: number }[];
  readonly table: { readonly head: readonly string[]; readonly rows: readonly (readonly (string | null)[])[] };
}

/** A page about what a larger model buys. */
export interface TradeOffPage {
  readonly title: string;
  readonly simulated?: boolean;
  /** plain words, the most important first */
  readonly summary: readonly string[];
  /** terms and values: data, seed, machine */
  readonly facts: readonly (readonly [term: string, value: string])[];
  readonly sections: readonly TradeOffSection[];
  /** how it was measured, and what that leaves open */
  readonly method: readonly string[];
}

/** The page as one HTML file that loads nothing. */
export function renderTradeOffs({ title, simulated, summary, facts, sections, method }: TradeOffPage): string {
  const [first, ...others] = summary;
  return markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title><style>${Html.raw(STYLE)}</style></head>
<body><main>
<header><h1>${title}</h1>
${simulated && markup`<p><span class="badge">Simulated data</span></p>`}</header>
<section><h2>In short</h2>
${first !== undefined && markup`<p class="lead">${first}</p>`}
${others.length > 0 && markup`<ul class="summary">${others.map((sentence) => markup`<li>${sentence}</li>`)}</ul>`}
<dl class="facts">${facts.map(([term, value]) => markup`<div${value.length > 20 && Html.raw(' class="long"')}><dt>${term}</dt><dd>${value}</dd></div>`)}</dl></section>
${sections.map(sectionOf)}
<section><h2>How it was measured</h2><ul class="how">${method.map((line) => markup`<li>${line}</li>`)}</ul></section>
</main></body></html>
`.text;
}

/** Writes the page, the whole file or nothing. @throws ReportWriteError */
export async function writeTradeOffs(file: string, page: TradeOffPage): Promise<void> {
  await writeAtomic(file, renderTradeOffs(page));
}

function sectionOf({ title, text, quality, costs, points, references = [], table: figures }: TradeOffSection): Html {
  const names = [...new Set(points.map((point) => point.series))];
  const plots = costs.map(({ key, label }) => {
    const series = names.map((name) => ({
      name,
      points: points.flatMap((point) =>
        point.series === name && point.costs[key] > 0
          ? [{ name: point.name, x: point.costs[key], y: point.value, interval: point.interval }]
          : [],
      ),
    }));
    const lines = references.map(({ name, value }) => ({ name, y: value }));
    return markup`<div>${scatterPlot(series, { title: `${quality} against ${label}`, xLabel: `${label} (log scale)`, yLabel: quality, references: lines })}</div>`;
  });
  return markup`<section><h2>${title}</h2><p class="under">${text}</p>
<div class="panels plots">${plots}</div>
${table(figures.head, figures.rows)}</section>`;
}
