import type { RowColumns } from '@user-llm/event-tokenizer';
import type { Item, Row } from './dataset.js';
import type { EventContents } from './suggested-schema.js';

/** What a reader of one layout gives; `openDataset` adds name, hashes and schema. */
export interface SourceReader {
  layout: string;
  contents: EventContents;
  eventBatches: AsyncIterable<Row[]>;
  /** The same column by column, where that is faster. */
  eventBlocks?: AsyncIterable<Row[] | RowColumns>;
  items?: AsyncIterable<Item>;
  users?: AsyncIterable<Row>;
  /** Those of the options of some layouts alone that this data was read by. */
  honours: readonly string[];
  /** Paths of all files that are read. */
  files: string[];
  source: string;
  licence: string;
  notes: string[];
}
