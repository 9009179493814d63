import type { Candidate } from '@user-llm/cross-attention';
import { MissingColumnError, openDataset, simulateFilmService, type Dataset, type Item } from '@user-llm/datasets';
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

/** Opens a folder or file of events, or simulates the embedded film service. @param columns which column is what, by role */
export async function openSource(data: string | null, seed: number, columns?: Record<string, string>): Promise<Dataset> {
  if (data === null) return simulateFilmService({ seed });
  try {
    return await openDataset(data, columns && { columns });
  } catch (error) {
    if (!MissingColumnError.isInstance(error)) throw error;
    const { file, role, column, present } = error as MissingColumnError;
    const missing = column === undefined ? `no column that looks like the ${role}` : `no column '${column}' for the ${role}`;
    throw new UsageError(`${file} has ${missing}; it has ${present.join(', ') || 'none'}. Name it with --columns ${role}=NAME`, {
      cause: error,
    });
  }
}

/** Fits the tokenizer: every item has its own id, since every item is ranked. */
export async function fitTokenizer(dataset: Dataset): Promise<EventTokenizer> {
  return EventTokenizer.fit(dataset.schema, () => dataset.eventBlocks, { minCount: 1 });
}

export async function loadCorpus(dataset: Dataset, tokenizer: EventTokenizer): Promise<Corpus> {
  const events = await tokenizer.encode(dataset.eventBlocks);
  const items: Item[] = [];
  if (dataset.items) for await (const item of dataset.items) items.push(item);
  const log = interactions(events, {
    itemField: tokenizer.itemField,
    vocabulary: [...tokenizer.vocabulary(tokenizer.itemField)],
    items,
  });
  if (log.users.length < 10)
    throw new UsageError(
      `${dataset.name} has ${log.users.length} users; a split needs at least 10 with three events each. Give a larger log.`,
    );
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
