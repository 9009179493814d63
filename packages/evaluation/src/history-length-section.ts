import { metric, whole } from './format.js';
import { markup, table } from './html.js';
import type { Html } from './html.js';
import { linePlot } from './line-plot.js';
import type { LinePlotOptions, Series } from './line-plot.js';
import type { ReportData } from './report-types.js';

/** As many as the page's style has; lines after those are dashed. */
const colours = 6;

/** Quality against history length. */
export function historyLengthSection({ historyLength = [] }: ReportData): Html {
  if (historyLength.length === 0) return markup``;
  const names = historyLength[0].systems.map(({ name }) => name);
  const figure = (row: (typeof historyLength)[number], name: string) => row.systems.find((system) => system.name === name);
  const series = names.map((name, i): Series => ({
    name,
    colour: i % colours,
    dashed: i >= colours,
    marks: true,
    points: historyLength.flatMap((row) => {
      const recall = figure(row, name)?.['recall@10'];
      return recall == null ? [] : [{ x: row.events, y: recall }];
    }),
  }));
  const shape: LinePlotOptions = {
    title: 'Recall@10 against history length',
    xLabel: 'last events that are known',
    yLabel: 'recall@10',
    width: 720,
    height: 320,
    xTicks: historyLength.map((row) => row.events),
  };
  return markup`<section><h2>Does a longer history help?</h2><p class="under">Recall@10, filtered, over the same ${whole(historyLength[0].users)} test users, whose histories are cut to their last events. In brackets 95 % intervals.</p>
<div class="wide">${linePlot(series, shape)}</div><div class="narrow">${linePlot(series, { ...shape, width: 340, height: 260 })}</div>
${table(
  ['Events', ...names],
  historyLength.map((row) => [
    whole(row.events),
    ...names.map((name) => {
      const found = figure(row, name);
      if (found === undefined) return null;
      if (found['recall@10'] == null || found.ci95 === null) return 'does not fit';
      return `${metric(found['recall@10'])} (${found.ci95[0].toFixed(3)} – ${found.ci95[1].toFixed(3)})`;
    }),
  ]),
)}</section>`;
}
