import { linearAxis, logAxis } from './axis.js';
import { short } from './format.js';
import { markup } from './html.js';
import type { Html } from './html.js';

/** One line of a {@link linePlot}. */
export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
  /** colour class c0 .. c5 */
  readonly colour: number;
  readonly dashed?: boolean;
  /** draw a mark at each point */
  readonly marks?: boolean;
}

/** Options of {@link linePlot}. */
export interface LinePlotOptions {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly width: number;
  readonly height: number;
  readonly logY?: boolean;
  readonly xTicks?: readonly number[];
}

/** Lines on a plane, with axes and a legend in words below. */
export function linePlot(series: readonly Series[], options: LinePlotOptions): Html {
  const { title, xLabel, yLabel, width, height, logY = false } = options;
  const points = series.flatMap((one) => one.points).filter((point) => Number.isFinite(point.y) && (!logY || point.y > 0));
  if (points.length === 0) return markup``;
  const [left, right, top, bottom] = [54, width - 16, 26, height - 40];
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  const [first, last] = extent(xs);
  const horizontal = linearAxis([Math.min(0, first), last], [left, right], width < 500 ? 4 : 6);
  const range = extent(ys);
  const vertical = logY ? logAxis(range, [bottom, top]) : linearAxis(range, [bottom, top]);
  const ticks = [
    ...vertical.ticks.map(
      (tick) =>
        markup`<line class="grid" x1="${left}" x2="${right}" y1="${px(vertical.at(tick))}" y2="${px(vertical.at(tick))}"/><text class="tick" text-anchor="end" x="${left - 8}" y="${px(vertical.at(tick) + 4)}">${short(tick)}</text>`,
    ),
    ...(options.xTicks ?? horizontal.ticks).map(
      (tick) =>
        markup`<text class="tick" text-anchor="middle" x="${px(horizontal.at(tick))}" y="${bottom + 18}">${short(tick)}</text>`,
    ),
  ];
  const lines = series.map((one) => {
    const kept = one.points.filter((point) => Number.isFinite(point.y) && (!logY || point.y > 0));
    const path = kept.map((point, i) => `${i ? 'L' : 'M'}${px(horizontal.at(point.x))} ${px(vertical.at(point.y))}`).join('');
    const marks = kept.map(
      (point) =>
        markup`<circle class="dot" cx="${px(horizontal.at(point.x))}" cy="${px(vertical.at(point.y))}" r="${one.marks ? 4 : 2}"><title>${one.name}: ${short(point.y)} at ${short(point.x)}</title></circle>`,
    );
    return markup`<g class="c${one.colour}"><path class="line${one.dashed ? ' dashed' : ''}" d="${path}"/>${(one.marks || kept.length < 40) && marks}</g>`;
  });
  const legend = markup`<ul class="legend">${series.map((one) => markup`<li class="c${one.colour}"><svg viewBox="0 0 26 10" aria-hidden="true"><path class="line${one.dashed ? ' dashed' : ''}" d="M1 5L25 5"/></svg>${one.name}</li>`)}</ul>`;
  return markup`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}"><text class="tick" x="4" y="14">${yLabel}</text>${ticks}<line class="axis" x1="${left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>${lines}<text class="tick" text-anchor="end" x="${right}" y="${height - 4}">${xLabel}</text></svg>${legend}`;
}

/** Smallest and largest value; a call with an argument for each step of a long training would be too much. */
function extent(values: readonly number[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

const px = (value: number): string => value.toFixed(1);
