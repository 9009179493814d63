import type { Report } from '@user-llm/evaluation';
import { time } from '../run/console-output.js';
import { mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { prepareSystem } from './adapt.js';
import { ask } from './ask.js';
import { encodeFor } from './encode.js';
import { evaluateAll, evaluateSystem, reportSoFar } from './evaluate.js';
import { prepareLanguageModel } from './language.js';
import { pretrain } from './pretrain.js';

export interface RunAllOptions {
  readonly question?: string;
  readonly user?: string;
  /** Called whenever a system is finished, with a report on all that are (`finished` says whether it is the last one). */
  readonly onReport?: (report: Report) => void | Promise<void>;
}

/** The whole way: events to report, system by system, and one question at the end. */
export async function runAll(workspace: Workspace, { onReport, ...question }: RunAllOptions): Promise<void> {
  const began = performance.now();
  const { systems, run, output } = workspace;
  const { data, minutes, llm } = run.settings;
  output.note(
    `${data === null ? 'No --data: a simulated film service.' : data} About ${minutes} minutes on two cores; Ctrl-C stops, and the same command goes on.`,
  );
  await workspace.corpus();
  // A model that is given is loaded before an encoder is trained for it.
  if (llm !== null) await prepareLanguageModel(workspace);
  await pretrain(workspace);
  await prepareLanguageModel(workspace);
  for (const [i, spec] of systems.entries()) {
    await prepareSystem(workspace, spec);
    if (spec.reading.embedding) await encodeFor(workspace, spec);
    await evaluateSystem(workspace, spec);
    if (onReport && i + 1 < systems.length) await onReport(await reportSoFar(workspace, systems.slice(0, i + 1)));
  }
  const report = await evaluateAll(workspace);
  await onReport?.(report);
  if (systems.includes(mainSystem)) await ask(workspace, question);
  output.note(`\nfinished in ${time((performance.now() - began) / 1000)}`);
}
