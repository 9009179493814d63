import path from 'node:path';

import { checkHonoured, checkOptions } from './check-options.js';
import type { ColumnMapping } from './columns.js';
import type { Dataset } from './dataset.js';
import { detect } from './detect.js';
import type { DetectOptions } from './detect.js';
import { flatten } from './streams.js';
import { suggestSchema } from './suggested-schema.js';
import { describeFile } from './text-file.js';

export interface OpenOptions extends DetectOptions {
  /** Default: the name of the folder or file. */
  name?: string;
  /** Which column is what, for files of your own: `{ user: 'customer', item: 'sku', time: 'bought_at' }`. Roles with a usual name need none. */
  columns?: ColumnMapping;
  /** "Matrix, The (1999)" becomes "The Matrix (1999)" (MovieLens). Default false: titles are as in the file. */
  normaliseTitles?: boolean;
  /** Default true: every file is read once more, for its SHA-256. */
  checksum?: boolean;
  signal?: AbortSignal;
}

/**
 * Opens an event log, a folder or one file, having found out from the names and first lines how it is laid out: MovieLens (100K;
 * 1M and 10M; latest, 20M, 25M and 32M), Amazon reviews (2014, 2018, 2023), Google Local reviews, or any CSV, JSON lines or Parquet.
 * Rows are read while they are iterated. A row that cannot be taken apart is passed on with its line and the reason
 * ({@link problemOf}), a value of the wrong kind as it stands in the file: the event tokenizer quarantines both. An option that
 * nothing in the data is read by is refused.
 *
 * @throws PathNotFoundError, EmptyFileError, MissingColumnError, BinaryFileError, DamagedFileError, UnknownLayoutError, InvalidOptionError
 */
export async function openDataset(location: string, given: OpenOptions = {}): Promise<Dataset> {
  checkOptions(given);
  given.signal?.throwIfAborted();
  const reader = await detect(location, given);
  checkHonoured(given, reader);
  const { layout, contents, eventBatches, eventBlocks, items, users, source, licence, notes, files } = reader;
  const described = [];
  for (const file of files) described.push(await describeFile(file, given));
  return {
    name: given.name ?? path.basename(path.resolve(location)),
    simulated: false,
    layout,
    time: { unit: contents.time ?? 'order' },
    events: flatten(eventBatches),
    eventBatches,
    eventBlocks: eventBlocks ?? eventBatches,
    items,
    users,
    schema: suggestSchema(contents),
    provenance: { source, licence, files: described, notes },
  };
}
