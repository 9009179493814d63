import type { Report } from '@user-llm/evaluation';
import { counted, time } from '../run/console-output.js';
import { UsageError } from '../errors.js';
import { defaultSystems, mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { prepareSystem } from './adapt.js';
import { ask, indexOf } from './ask.js';
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
  const { data, llm } = run.settings;
  const asks = systems.includes(mainSystem);
  if (!asks && (question.user ?? question.question) !== undefined)
    throw new UsageError(
      `--question and --user are for ${mainSystem.name}, which is not among the systems; add it to --systems, or leave them out`,
    );
  output.note(
    `${data === null ? 'No --data: a simulated film service.' : data} ${howLong(workspace)}; Ctrl-C stops, and the same command${run.fresh ? ' without --fresh' : ''} goes on.`,
  );
  const corpus = await workspace.corpus();
  if (question.user !== undefined) indexOf(corpus, question.user);
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
  if (asks) await ask(workspace, question);
  output.note(`\nfinished in ${time((performance.now() - began) / 1000)}`);
}

/** How long a run takes, as far as it is known: the minutes are planned for the usual systems. */
function howLong({ run, systems }: Workspace): string {
  const { minutes, examples, encoderSteps } = run.settings;
  if (examples !== undefined || encoderSteps !== undefined)
    return 'How long it takes is for --examples and --encoder-steps to say, and each stage says what is left';
  if (systems.length > defaultSystems.length)
    return `About ${counted(minutes, 'minute')} for the usual systems, on two cores, and more for these`;
  return `About ${counted(minutes, 'minute')} on two cores`;
}
