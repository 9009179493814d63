import { time } from '../run/console-output.js';
import type { Workspace } from '../workspace.js';
import { adaptAll } from './adapt.js';
import { ask } from './ask.js';
import { encodeUsers } from './encode.js';
import { evaluateAll } from './evaluate.js';
import { prepareLanguageModel } from './language.js';
import { pretrain } from './pretrain.js';

/** The whole way: events to report, and one question at the end. */
export async function runAll(workspace: Workspace, options: { question?: string; user?: string }): Promise<void> {
  const began = performance.now();
  const { data, minutes, llm } = workspace.run.settings;
  workspace.output.note(
    `${data === null ? 'No --data: a simulated film service.' : data} About ${minutes} minutes on two cores; Ctrl-C stops, and the same command goes on.`,
  );
  await workspace.corpus();
  // A model that is given is loaded before an encoder is trained for it.
  if (llm !== null) await prepareLanguageModel(workspace);
  await pretrain(workspace);
  await adaptAll(workspace);
  await encodeUsers(workspace);
  await evaluateAll(workspace);
  await ask(workspace, options);
  workspace.output.note(`\nfinished in ${time((performance.now() - began) / 1000)}`);
}
