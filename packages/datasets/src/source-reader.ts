import type { RowColumns } from '@user-llm/event-tokenizer';
import type { LayoutOption } from './check-options.js';
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
  /** The layout-specific options that this reader uses; `openDataset` refuses the others. */
  honours: readonly LayoutOption[];
  /** Paths of all files that are read. */
  files: string[];
  source: string;
  licence: string;
  notes: string[];
}
