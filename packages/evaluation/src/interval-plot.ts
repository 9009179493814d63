import { linearAxis } from './axis.js';
import { short } from './format.js';
import { markup } from './html.js';
import type { Html } from './html.js';

/** One system in an {@link intervalPlot}. */
export interface IntervalMark {
  readonly name: string;
  readonly value: number;
  readonly interval: readonly [number, number] | null;
  /** drawn as an open mark */
  readonly second?: number;
  /** colour class */
  readonly tone: 'baseline' | 'system' | 'accent';
}

/** A row for each system: the figure, its interval, and a dashed line at `reference`. Drawn twice, for wide and for narrow screens. */
export function intervalPlot(title: string, marks: readonly IntervalMark[], reference?: number): Html {
  if (marks.length === 0) return markup``;
  return markup`<div class="wide">${draw(title, marks, reference, 720)}</div><div class="narrow">${draw(title, marks, reference, 340)}</div>`;
}

function draw(title: string, marks: readonly IntervalMark[], reference: number | undefined, width: number): Html {
  const narrow = width < 500;
  const left = narrow ? 6 : 262;
  const row = narrow ? 42 : 28;
  const top = 8;
  const bottom = top + row * marks.length;
  const most = Math.max(...marks.flatMap((mark) => [mark.value, mark.second ?? 0, mark.interval?.[1] ?? 0]), 1e-6);
  const axis = linearAxis([0, most], [left, width - 56], narrow ? 3 : 6);
  const grid = axis.ticks.map(
    (tick) =>
      markup`<line class="grid" x1="${x(axis.at(tick))}" x2="${x(axis.at(tick))}" y1="${top}" y2="${bottom}"/><text class="tick" text-anchor="middle" x="${x(axis.at(tick))}" y="${bottom + 18}">${short(tick)}</text>`,
  );
  const rows = marks.map((mark, i) => {
    const y = top + row * i + (narrow ? 28 : row / 2);
    const [low, high] = mark.interval ?? [mark.value, mark.value];
    const described = `${mark.name}: ${mark.value.toFixed(4)}${mark.interval ? `, 95 % interval ${low.toFixed(4)} to ${high.toFixed(4)}` : ''}${mark.second === undefined ? '' : `; unfiltered ${mark.second.toFixed(4)}`}`;
    return markup`<g class="${mark.tone}"><title>${described}</title>
<text class="name" ${narrow ? markup`x="${left}" y="${y - 12}"` : markup`x="${left - 12}" y="${y + 4}" text-anchor="end"`}>${mark.name}</text>
${mark.interval && markup`<line class="interval" x1="${x(axis.at(low))}" x2="${x(axis.at(high))}" y1="${y}" y2="${y}"/>`}
${mark.second !== undefined && markup`<circle class="open" cx="${x(axis.at(mark.second))}" cy="${y}" r="4"/>`}
<circle class="dot" cx="${x(axis.at(mark.value))}" cy="${y}" r="5"/>
<text class="value" x="${x(axis.at(Math.max(high, mark.second ?? 0)) + 10)}" y="${y + 4}">${mark.value.toFixed(3)}</text></g>`;
  });
  const line =
    reference !== undefined &&
    markup`<line class="reference" x1="${x(axis.at(reference))}" x2="${x(axis.at(reference))}" y1="${top}" y2="${bottom}"/>`;
  return markup`<svg viewBox="0 0 ${width} ${bottom + 26}" role="img" aria-label="${title}">${grid}${line}${rows}</svg>`;
}

const x = (value: number): string => value.toFixed(1);
