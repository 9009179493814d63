import type { Candidate } from '@user-llm/cross-attention';
import { openDataset, simulateFilmService, type Dataset, type Item } from '@user-llm/datasets';
import { dropLast, EventTokenizer, type EncodedEvents, type EventColumns } from '@user-llm/event-tokenizer';
import { interactions, leaveOneOut, type InteractionLog, type Split } from '@user-llm/evaluation';
import { UsageError } from './errors.js';

/** A data set, tokenised, with its held-out events named. */
export interface Corpus {
  readonly dataset: Dataset;
  readonly tokenizer: EventTokenizer;
  /** Everything, the held-out events included. */
  readonly events: EncodedEvents;
  /** Without each user's last event, the test item: what may be shown at test time. */
  readonly known: EventColumns;
  /** Without each user's last two events, the test and validation items: what may be learned from. */
  readonly train: EventColumns;
  readonly log: InteractionLog;
  readonly split: Split;
  /** By item index (vocabulary id minus the special ids). */
  readonly titles: readonly string[];
  readonly categories: readonly (readonly string[])[];
  /** SHA-256 of the source, as the report states it. */
  readonly sha256: string;
}

/** The items as a language model knows them: by index, under their ids. */
export const candidatesOf = ({ log, titles }: Corpus): Candidate[] => log.itemIds.map((id, i) => ({ id, text: titles[i] }));

/**
 * Opens a folder or file of events, or simulates the embedded film service.
 *
 * @param columns which column is what, by role
 */
export async function openSource(
  data: string | null,
  seed: number,
  columns?: Record<string, string>,
  signal?: AbortSignal,
): Promise<Dataset> {
  if (data !== null) return openDataset(data, { ...(columns && { columns }), ...(signal && { signal }) });
  if (columns !== undefined) throw new UsageError('--columns is for data of your own; give --data, or leave it out');
  return simulateFilmService({ seed });
}

/** Fits the tokenizer: every item has its own id, since every item is ranked. */
export async function fitTokenizer(dataset: Dataset, signal?: AbortSignal): Promise<EventTokenizer> {
  return EventTokenizer.fit(dataset.schema, () => dataset.eventBlocks, { minCount: 1, ...(signal && { signal }) });
}

export async function loadCorpus(dataset: Dataset, tokenizer: EventTokenizer, signal?: AbortSignal): Promise<Corpus> {
  const events = await tokenizer.encode(dataset.eventBlocks, signal && { signal });
  const items: Item[] = [];
  if (dataset.items)
    for await (const item of dataset.items) {
      signal?.throwIfAborted();
      items.push(item);
    }
  const log = interactions(events, {
    itemField: tokenizer.itemField,
    vocabulary: [...tokenizer.vocabulary(tokenizer.itemField)],
    items,
  });
  checkUsers(dataset.name, log);
  checkIds(dataset.name, log);
  return {
    dataset,
    tokenizer,
    events,
    known: dropLast(events, 1),
    train: dropLast(events, 2),
    log,
    split: leaveOneOut(log),
    titles: log.itemIds.map((id, i) => log.titles?.[i] || id),
    categories: log.itemIds.map((_, i) => log.categories?.[i] ?? []),
    sha256: dataset.provenance.files.map(({ sha256 }) => sha256).join('+'),
  };
}

const least = { users: 10, events: 3, items: 11 };
/** Besides the two that are held out, one to read and one to learn. */
const learnableEvents = 4;

/** @throws UsageError for a log that is too small to be split, or to be learned from */
function checkUsers(name: string, { users, offsets }: InteractionLog): void {
  const having = (events: number): number => users.filter((_, user) => offsets[user + 1] - offsets[user] >= events).length;
  const testable = having(least.events);
  if (testable < least.users)
    throw new UsageError(
      `${name}: ${testable} of ${users.length} users have ${least.events} events or more, and a split needs ${least.users} such users. Give a larger log.`,
    );
  if (having(learnableEvents) === 0)
    throw new UsageError(
      `${name}: no user has ${learnableEvents} events, and one at least is needed: the last two of each are held out. Give a larger log.`,
    );
}

/** The longest id that a store takes, in UTF-8 bytes. */
const longestId = 4096;

/** Why the embedding of a user of that name cannot be stored; undefined where it can. */
export function idProblem(user: string): string | undefined {
  if (Buffer.byteLength(user) > longestId) return `has more than ${longestId} bytes`;
  return /\p{Surrogate}/u.test(user) ? 'holds half of a character (a lone surrogate)' : undefined;
}

/** @throws UsageError for a user whose embedding could not be stored, once everything is trained */
function checkIds(name: string, { users }: InteractionLog): void {
  for (const user of users) {
    const problem = idProblem(user);
    if (problem === undefined) continue;
    throw new UsageError(
      `${name}: the id of a user ${problem}, and cannot be stored: ${JSON.stringify(user.slice(0, 40))}. Give users other ids.`,
    );
  }
}

/** @throws UsageError for a catalogue that is too small for a ranking to say anything */
export function checkCatalogue({ dataset, log }: Corpus): void {
  if (log.itemIds.length < least.items)
    throw new UsageError(
      `${dataset.name} has ${log.itemIds.length} items, and a ranking of the first ten needs ${least.items}. Give a log with more items.`,
    );
}
