import type { Report } from '@user-llm/evaluation';
import type { Workspace } from '../workspace.js';

/** The report's summary, tables and latencies on the console. */
export function showReport({ output, run }: Workspace, report: Report): void {
  output.print();
  for (const sentence of report.summary) output.print(sentence);
  output.print();
  for (const task of ['next-item', 'favourite-genre']) {
    const rows = report.rows.filter((row) => row.task === task).map(({ task: _, ...row }) => row);
    if (rows.length === 0) continue;
    output.print(
      task === 'next-item'
        ? 'Which item comes next (filtered: without what the user knows already)'
        : 'Which genre does the user like best',
    );
    output.table(rows);
    output.print();
  }
  const { scaling } = report.toJSON();
  for (const { events, textPrompt, userLlm, ratio } of scaling ?? [])
    output.print(
      `${String(events).padStart(4)} events: first token after ${format(textPrompt.p50Ms)} with the text prompt (${whole(textPrompt.tokens)} tokens), ${format(userLlm.p50Ms)} with the embedding (${whole(userLlm.tokens)} tokens)${ratio === null ? '' : `: ${ratio.toFixed(1)} times as fast`}`,
    );
  output.print();
  output.print(`report: ${run.path('report.html')} and ${run.path('report.json')}`);
  output.result({ event: 'report', summary: report.summary, json: run.path('report.json'), html: run.path('report.html') });
}

const format = (ms: number | null): string => (ms === null ? 'does not fit' : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
const whole = (tokens: number | null): string => (tokens === null ? '-' : String(Math.round(tokens)));
