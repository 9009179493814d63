import { userIndex } from '@user-llm/event-tokenizer';
import { UsageError } from '../errors.js';
import { nextQuestions } from '../prompts.js';
import { LanguageSystem } from '../systems/language-system.js';
import { mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { stageOf, systemFolder } from './adapt.js';
import { encoded, loadAdaptedEncoder, openUsers } from './encode.js';

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
  const system = await LanguageSystem.open(mainSystem, systemFolder(workspace, mainSystem.name), corpus, {
    users: { store, encoder: await loadAdaptedEncoder(workspace, mainSystem.name) },
  });
  try {
    const { known, log, titles } = corpus;
    const length = known.offsets[index + 1] - known.offsets[index];
    const recent = log.items.subarray(log.offsets[index] + Math.max(0, length - titlesShown), log.offsets[index] + length);
    output.print(
      `\nUser ${known.users[index]} (${length} events; the last: ${Array.from(recent, (item) => titles[item] ?? 'unknown').join('; ') || 'none'})`,
    );
    output.print(`> ${question}`);
    const answers: Record<string, string> = {};
    for (const [label, embedding] of [
      ['with the embedding', await system.embedding(index)],
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

function longest(offsets: Int32Array): number {
  let best = 0;
  for (let user = 1; user < offsets.length - 1; user++)
    if (offsets[user + 1] - offsets[user] > offsets[best + 1] - offsets[best]) best = user;
  return best;
}
