import { linearAxis, logAxis } from './axis.js';
import { short } from './format.js';
import { markup } from './html.js';
import type { Html } from './html.js';

/** Points of a {@link scatterPlot} that a line joins, in the order of x. */
export interface ScatterSeries {
  readonly name: string;
  readonly points: readonly {
    readonly name: string;
    /** above zero */
    readonly x: number;
    readonly y: number;
    readonly interval: readonly [number, number] | null;
  }[];
}

/** Options of {@link scatterPlot}. */
export interface ScatterPlotOptions {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** dashed lines across the plot */
  readonly references?: readonly { readonly name: string; readonly y: number }[];
}

const [width, height] = [480, 320];
const [left, right, top, bottom] = [54, width - 24, 26, height - 40];
const colours = 6;
/** Pixels between series, so that points of one x do not hide each other's intervals. */
const apart = 5;

/** Quality against cost: y with its interval, x on a logarithmic scale, a colour for each series, and a legend in words below. */
export function scatterPlot(series: readonly ScatterSeries[], options: ScatterPlotOptions): Html {
  const { title, xLabel, yLabel, references = [] } = options;
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) return markup``;
  const xs = points.map((point) => point.x);
  const highest = Math.max(...points.map((point) => point.interval?.[1] ?? point.y), ...references.map(({ y }) => y), 1e-6);
  const horizontal = logAxis([Math.min(...xs), Math.max(...xs)], [left + 12, right - 12]);
  const vertical = linearAxis([0, highest], [bottom, top]);
  const grid = [
    ...vertical.ticks.map(
      (tick) =>
        markup`<line class="grid" x1="${left}" x2="${right}" y1="${px(vertical.at(tick))}" y2="${px(vertical.at(tick))}"/><text class="tick" text-anchor="end" x="${left - 8}" y="${px(vertical.at(tick) + 4)}">${short(tick)}</text>`,
    ),
    ...horizontal.ticks.map(
      (tick) =>
        markup`<text class="tick" text-anchor="middle" x="${px(horizontal.at(tick))}" y="${bottom + 18}">${short(tick)}</text>`,
    ),
  ];
  const lines = references.map(
    ({ name, y }) =>
      markup`<line class="reference" x1="${left}" x2="${right}" y1="${px(vertical.at(y))}" y2="${px(vertical.at(y))}"/><text class="tick" text-anchor="end" x="${right}" y="${px(vertical.at(y) - 4)}">${name}</text>`,
  );
  const drawn = series.map((one, i) => {
    const shift = (i - (series.length - 1) / 2) * apart;
    const placed = [...one.points]
      .sort((a, b) => a.x - b.x)
      .map((point) => ({ ...point, at: [horizontal.at(point.x) + shift, vertical.at(point.y)] as const }));
    const path = placed.map(({ at: [x, y] }, j) => `${j ? 'L' : 'M'}${px(x)} ${px(y)}`).join('');
    const marks = placed.map(({ name, interval, x, y, at }) => {
      const ends = interval ? `, 95 % interval ${interval[0].toFixed(4)} to ${interval[1].toFixed(4)}` : '';
      return markup`<g><title>${name}: ${y.toFixed(4)}${ends}, at ${short(x)}</title>${interval && markup`<line class="interval" x1="${px(at[0])}" x2="${px(at[0])}" y1="${px(vertical.at(interval[0]))}" y2="${px(vertical.at(interval[1]))}"/>`}<circle class="dot" cx="${px(at[0])}" cy="${px(at[1])}" r="4"/></g>`;
    });
    return markup`<g class="c${i % colours}"><path class="line dashed" d="${path}"/>${marks}</g>`;
  });
  const legend = markup`<ul class="legend">${series.map((one, i) => markup`<li class="c${i % colours}"><i></i>${one.name}</li>`)}</ul>`;
  return markup`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}"><text class="tick" x="4" y="14">${yLabel}</text>${grid}${lines}<line class="axis" x1="${left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>${drawn}<text class="tick" text-anchor="end" x="${right}" y="${height - 4}">${xLabel}</text></svg>${series.length > 1 && legend}`;
}

const px = (value: number): string => value.toFixed(1);
