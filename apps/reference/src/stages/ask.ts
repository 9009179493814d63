import { userIndex } from '@user-llm/event-tokenizer';
import { UsageError } from '../errors.js';
import { nextQuestions } from '../prompts.js';
import { mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, openAdapted, stageOf } from './adapted.js';
import { encoded, openUsers } from './encode.js';

const titlesShown = 5;

/** Answers one question for one user, streaming, with the embedding and without. */
export async function ask(
  workspace: Workspace,
  { user, question = nextQuestions[1] }: { user?: string; question?: string },
): Promise<void> {
  const { output, run, signal } = workspace;
  run.need(stageOf(mainSystem), 'adapt');
  encoded(workspace, mainSystem);
  const corpus = await workspace.corpus();
  const index = user === undefined ? longest(corpus.known.offsets) : userIndex(corpus.known).get(user);
  if (index === undefined)
    throw new UsageError(
      `there is no user '${user}' in ${corpus.dataset.name}; its users are named like '${corpus.known.users[0]}'`,
    );
  const store = await openUsers(workspace);
  const system = await openAdapted(workspace, mainSystem, corpus, {
    users: { store, encoder: await loadAdaptedEncoder(workspace, mainSystem) },
  });
  try {
    const { known, log, titles } = corpus;
    // Before anything is said: a store that cannot be used is an error and no half answer.
    const own = await system.embedding(index);
    const length = known.offsets[index + 1] - known.offsets[index];
    const recent = log.items.subarray(log.offsets[index] + Math.max(0, length - titlesShown), log.offsets[index] + length);
    const seen = Array.from(recent, (item) => titles[item] ?? 'unknown');
    output.print(`\nUser ${known.users[index]} (${whatIsKnown(length, seen)})`);
    output.print(`> ${question}`);
    const answers: Record<string, string> = {};
    for (const [label, embedding] of [
      ['with the embedding', own],
      ['without', undefined],
    ] as const) {
      const answer = system.served.generate({
        messages: [{ role: 'user', content: question }],
        user: embedding,
        maxNewTokens: 48,
        signal,
      });
      output.write(`${label.padEnd(20)}`);
      for await (const piece of answer.textStream) output.write(piece);
      const { firstTokenMs } = await answer.timings;
      output.print(`  (first word after ${firstTokenMs.toFixed(0)} ms)`);
      answers[label] = await answer.text;
    }
    output.result({ event: 'answer', user: known.users[index], question, answers });
  } finally {
    await system.dispose();
    await store.close();
  }
}

function whatIsKnown(events: number, recent: readonly string[]): string {
  if (events === 0) return 'no events known';
  const last = recent.length < events ? ', the last' : '';
  return `${events} event${events === 1 ? '' : 's'} known${last}: ${recent.join('; ')}`;
}

function longest(offsets: Int32Array): number {
  let best = 0;
  for (let user = 1; user < offsets.length - 1; user++)
    if (offsets[user + 1] - offsets[user] > offsets[best + 1] - offsets[best]) best = user;
  return best;
}
