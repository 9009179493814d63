import { bytes, duration, short, whole } from './format.js';
import { Html, markup } from './html.js';
import { historyLengthSection } from './history-length-section.js';
import { processorOf } from './machine.js';
import { costSection, promptCacheSection, qualitySection, scalingSection, trainingSection } from './report-sections.js';
import { STYLE } from './report-style.js';
import type { ReportData } from './report-types.js';
import { shortfall } from './summary.js';

/** The whole report as one HTML page that loads nothing. */
export function renderHtml(report: ReportData): string {
  const { dataset, summary } = report;
  const name = dataset?.name ?? 'an interaction log';
  const [first, ...others] = summary;
  const page = markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Evaluation on ${name}</title><style>${Html.raw(STYLE)}</style></head>
<body><main>
<header><h1>What the systems know about the users of ${name}</h1>
${dataset?.simulated && markup`<p><span class="badge">Simulated data</span></p>`}</header>
<section><h2>In short</h2>
${first !== undefined && markup`<p class="lead${shortfall(report) ? ' warn' : ''}">${first}</p>`}
${others.length > 0 && markup`<ul class="summary">${others.map((sentence) => markup`<li>${sentence}</li>`)}</ul>`}
${facts(report)}</section>
${qualitySection(report, 'next-item')}
${qualitySection(report, 'favourite-genre')}
${historyLengthSection(report)}
${scalingSection(report)}
${costSection(report)}
${promptCacheSection(report)}
${trainingSection(report)}
${method(report)}
</main></body></html>
`;
  return page.text;
}

function facts(report: ReportData): Html {
  const { dataset, machine, durationSeconds, peakRssBytes, seed, protocols } = report;
  const described = typeof machine === 'object' ? `${processorOf(machine)}, ${bytes(machine.memoryBytes)}` : machine;
  const list: [string, string | undefined][] = [
    ['Users', dataset && whole(dataset.users)],
    ['Items', dataset && whole(dataset.items)],
    ['Events', dataset && whole(dataset.events)],
    ['Test users', Object.values(protocols)[0] && whole(Object.values(protocols)[0].testUsers)],
    ['Whole run', durationSeconds === undefined ? undefined : duration(durationSeconds)],
    ['Peak memory', peakRssBytes === undefined ? undefined : bytes(peakRssBytes)],
    ['Seed', String(seed)],
    ['Machine', described],
  ];
  return markup`<dl class="facts">${list.map(([term, value]) => value && markup`<div${value.length > 20 && Html.raw(' class="long"')}><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function method(report: ReportData): Html {
  const { protocols, depth, dataset, seed } = report;
  return markup`<section><h2>How it was measured</h2><ul class="how">
${Object.entries(protocols).map(
  ([
    task,
    protocol,
  ]) => markup`<li><b>${task}</b>: ${protocol.split}. ${whole(protocol.testUsers)} test users; ${whole(protocol.leftOut.users)} left out (${protocol.leftOut.reason}).
${protocol.unknownTargets > 0 && markup` ${whole(protocol.unknownTargets)} true items are outside the vocabulary and count as missed.`}${task === 'next-item' && protocol.repeatedTargets > 0 && markup` ${whole(protocol.repeatedTargets)} true items had been met before: no filtered ranking can hold them.`} Ties: ${protocol.ties}. Protocol hash <code>${protocol.hash.slice(0, 16)}</code>.</li>`,
)}
<li>Every system ranks all items; nothing is ranked against a sample of items. <b>Filtered</b> leaves the items of the user's history out of the ranking, <b>unfiltered</b> does not.</li>
<li>Rankings count down to rank ${depth}; below that an item is missed, by every system alike.</li>
<li>Intervals are 95 % bootstrap intervals over users (2,000 resamples, seed ${seed}); differences are paired, user by user, against the baseline that is best on the same users; p is a two-sided sign-flip test, and in brackets after Holm's correction for the number of comparisons.</li>
<li>Latency is the wall-clock time of one whole request, asked one after the other.</li>
${dataset?.sha256 && markup`<li>Data: SHA-256 <code>${dataset.sha256}</code>.</li>`}
<li>${short(report.systems.length)} rows; the same figures, unrounded, stand in <code>report.json</code>.</li></ul></section>`;
}
