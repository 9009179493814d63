import { byItemTokens, type Generation, type GenerateRequest, type Prompt, type ServedModel } from '@user-llm/cross-attention';
import { userIndex } from '@user-llm/event-tokenizer';
import type { UserEmbedding, UserEncoder } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { UsageError } from '../errors.js';
import { FavouriteGenres } from '../favourite-genres.js';
import { LiveUsers, type LiveHistory } from '../live/live-users.js';
import { nextQuestions } from '../prompts.js';
import type { ConsoleOutput } from '../run/console-output.js';
import { mainSystem } from '../system-specs.js';
import type { LanguageSystem } from '../systems/language-system.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, openAdapted, stageOf } from './adapted.js';
import { encoded, openUsers } from './encode.js';
import { baseKind } from './language.js';

const titlesShown = 5;
const itemsNamed = 3;

/** Answers one question for one user, streaming, with the embedding and without. */
export async function ask(
  workspace: Workspace,
  { user, question = nextQuestions[1] }: { user?: string; question?: string },
): Promise<void> {
  const { output, run, signal } = workspace;
  run.need(stageOf(mainSystem), 'adapt');
  encoded(workspace, mainSystem);
  const corpus = await workspace.corpus();
  const store = await openUsers(workspace);
  const encoder = await loadAdaptedEncoder(workspace, mainSystem);
  const system = await openAdapted(workspace, mainSystem, corpus, { users: { store, encoder } });
  try {
    const { titles } = corpus;
    const live = LiveUsers.exist(run) ? await liveUser(workspace, corpus, encoder, user) : undefined;
    // Before anything is said: a store that cannot be used is an error and no half answer.
    const asker = live ?? (await heldOut(corpus, system, user));
    const { embedding: own, had } = asker;
    output.print(`\nUser ${asker.name} (${whatIsKnown(asker)})`);
    output.print(`> ${question}`);
    const words = baseKind(workspace) === 'scratch' ? new Set([...titles, ...new FavouriteGenres(corpus).genres]) : undefined;
    const answers: Record<string, { text: string; items?: string[] }> = {};
    for (const [label, embedding] of [
      ['with the embedding', own],
      ['without', undefined],
    ] as const) {
      const asked = { messages: [{ role: 'user', content: question }], user: embedding, signal } as const;
      const answer = system.served.generate({ ...asked, maxNewTokens: 48 });
      output.write(`${label.padEnd(20)}`);
      const text = await said(answer, output, words);
      const items = await named(system.served, asked, had);
      answers[label] = { text, ...(items && { items: items.map((item) => titles[item]) }) };
      if (items) output.print(`${''.padEnd(20)}${answers[label].items!.join('; ')}  (named by their tokens)`);
    }
    output.result({ event: 'answer', user: asker.name, events: asker.events, question, answers });
  } finally {
    await system.dispose();
    await store.close();
  }
}

/** The user who asks, and what is known of them. */
interface Asker extends Omit<LiveHistory, 'embedding'> {
  readonly name: string;
  readonly embedding: UserEmbedding | undefined;
}

/** A user of whom new events came. */
async function liveUser(
  { run }: Workspace,
  corpus: Corpus,
  encoder: UserEncoder,
  user: string | undefined,
): Promise<Asker | undefined> {
  if (user === undefined) return undefined;
  const live = await LiveUsers.open(run, corpus, encoder);
  try {
    const found = await live.find(user);
    return found && { name: user, ...found };
  } finally {
    await live.close();
  }
}

/** A user of the run's data as the evaluation knows them: without the test item. By default the one with the longest history. */
async function heldOut(corpus: Corpus, system: LanguageSystem, user: string | undefined): Promise<Asker> {
  const { known, log, titles } = corpus;
  const index = user === undefined ? longest(known.offsets) : indexOf(corpus, user);
  const events = known.offsets[index + 1] - known.offsets[index];
  const items = log.items.subarray(log.offsets[index], log.offsets[index] + events);
  return {
    name: known.users[index],
    events,
    since: 0,
    titles: Array.from(items, (item) => titles[item] ?? 'unknown'),
    had: new Set(items.filter((item) => item >= 0)),
    embedding: await system.embedding(index),
  };
}

/** A user's place in the log. @throws UsageError where there is none of that name */
export function indexOf({ known, dataset }: Pick<Corpus, 'known' | 'dataset'>, user: string): number {
  const index = userIndex(known).get(user);
  if (index === undefined)
    throw new UsageError(`there is no user '${user}' in ${dataset.name}; its users are named like '${known.users[0]}'`);
  return index;
}

/**
 * Shows an answer, and returns it.
 *
 * @param words all that the model was ever taught to say: anything else is noise of too short a training, which is not shown. Without them
 *   the answer is shown as it comes, piece by piece
 */
export async function said(
  answer: Pick<Generation, 'textStream' | 'text' | 'timings'>,
  output: Pick<ConsoleOutput, 'write' | 'print'>,
  words?: ReadonlySet<string>,
): Promise<string> {
  if (!words) for await (const piece of answer.textStream) output.write(piece);
  const text = await answer.text;
  const { firstTokenMs } = await answer.timings;
  if (text.trim() === '') output.print('(the model ended its answer at once)');
  else if (words && !words.has(text.trim())) output.print('(no answer in words yet: they take more training)');
  else output.print(`${words ? text : ''}  (first word after ${firstTokenMs.toFixed(0)} ms)`);
  return text;
}

/** The items that the model names after a question, without those that the user had; undefined where items have no tokens. */
async function named(
  served: ServedModel,
  asked: Prompt & Pick<GenerateRequest, 'user' | 'signal'>,
  had: ReadonlySet<number>,
): Promise<number[] | undefined> {
  if (served.items.length === 0) return undefined;
  const { items } = await served.rank({ ...asked, by: byItemTokens(served.items.length), exclude: had, top: itemsNamed });
  return Array.from(items);
}

function whatIsKnown({ events, since, titles }: Asker): string {
  if (events === 0) return 'no events known';
  const recent = titles.slice(-titlesShown);
  const last = recent.length < events ? ', the last' : '';
  const late = since > 0 ? `, ${since} of them new` : '';
  return `${events} event${events === 1 ? '' : 's'} known${late}${last}: ${recent.join('; ')}`;
}

function longest(offsets: Int32Array): number {
  let best = 0;
  for (let user = 1; user < offsets.length - 1; user++)
    if (offsets[user + 1] - offsets[user] > offsets[best + 1] - offsets[best]) best = user;
  return best;
}
