import { mkdir } from 'node:fs/promises';
import { evaluate, mix, nextItem, popularity, writeTradeOffs } from '@user-llm/evaluation';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { UsageError } from '../errors.js';
import { rankingMethods } from '../stages/evaluate.js';
import { prepareLanguageModel } from '../stages/language.js';
import { beamWidth } from '../systems/language-system.js';
import type { Workspace } from '../workspace.js';
import type { Cell } from './grid.js';
import { runCell, runWidth, trainingOf } from './measure-cell.js';
import { sweepReport, type MeasuredCell, type MeasuredWidth } from './sweep-report.js';

export interface SweepOptions {
  readonly cells: readonly Cell[];
  /** Test users that the language models rank for. */
  readonly users: number;
}

/** Trains and measures every cell of a grid, and writes sweep.html and sweep.json. Finished cells are kept, also when the grid grows. */
export async function sweep(workspace: Workspace, { cells, users }: SweepOptions): Promise<void> {
  const { run, output, seed, signal } = workspace;
  // Its language model is trained for another time, and would take the place of the run's.
  if (run.recorded('pretrain') !== undefined)
    throw new UsageError(`${run.folder} holds another run; a sweep has a folder of its own: name it with --out`);
  const listed = (values: readonly number[]): string => [...new Set(values)].join(',');
  run.chosen = ` --widths ${listed(cells.map(({ size }) => size.width))} --tokens ${listed(cells.map(({ size }) => size.userTokens))}`;
  const corpus = await workspace.corpus();
  await run.begin();
  await mkdir(run.path('outcomes'), { recursive: true });
  await mkdir(run.path('stores'), { recursive: true });
  await prepareLanguageModel(workspace);
  const measured: MeasuredCell[] = [];
  const widths: MeasuredWidth[] = [];
  for (const [i, cell] of cells.entries()) {
    output.note(`cell ${i + 1} of ${cells.length}: ${cell.spec.title}`);
    const found = await runCell(workspace, cell, users);
    if (!widths.some(({ width }) => width === cell.size.width))
      widths.push({ width: cell.size.width, outcome: await runWidth(workspace, cell), encodeMs: found.costs.encodeMs });
    measured.push({ cell, ...found, training: stepsOf(workspace, cell) });
  }
  const { method, among } = rankingMethods[run.settings.ranking];
  const report = await evaluate({
    task: nextItem(corpus.split),
    systems: [popularity(), mix()],
    seed,
    depth: beamWidth,
    known: [...measured, ...widths].map(({ outcome }) => outcome),
    signal,
  });
  const { json, page } = sweepReport({
    corpus,
    seed,
    minutesPerCell: run.settings.minutes,
    ranking: { way: run.settings.ranking, method, among },
    cells: measured,
    widths,
    report,
  });
  await writeFileAtomically(run.path('sweep.json'), [Buffer.from(`${JSON.stringify(json, null, 2)}\n`)]);
  await writeTradeOffs(run.path('sweep.html'), page);
  for (const sentence of page.summary) output.print(sentence);
  output.print();
  const [{ table }] = page.sections;
  output.table(table.rows.map((row) => Object.fromEntries(table.head.map((name, i) => [name || 'cell', row[i]]))));
  output.print(`\nreport: ${run.path('sweep.html')} and ${run.path('sweep.json')}`);
  output.result({ event: 'sweep', summary: page.summary, json: run.path('sweep.json'), html: run.path('sweep.html') });
}

function stepsOf(workspace: Workspace, cell: Cell): MeasuredCell['training'] {
  const { encoder, adapted } = trainingOf(workspace, cell);
  const first = encoder.result.training as { steps: number; stillImproving: boolean };
  const second = adapted.result.training as { steps: number; examplesSeen: number; stillFalling: boolean };
  return {
    pretrainSteps: first.steps,
    pretrainStillImproving: first.stillImproving,
    adaptSteps: second.steps,
    examplesSeen: second.examplesSeen,
    adaptStillFalling: second.stillFalling,
  };
}
