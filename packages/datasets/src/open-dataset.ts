import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import type { Dataset } from './dataset.js';
import { PathNotFoundError, UnknownLayoutError } from './errors.js';
import { movieLensFiles, readMovieLens } from './movielens.js';
import type { MovieLensLayout } from './movielens.js';
import type { SourceReader } from './source-reader.js';
import { flatten } from './streams.js';
import { suggestSchema } from './suggested-schema.js';
import { describeFile } from './text-file.js';

export interface OpenOptions {
  /** Default: the name of the folder or file. */
  name?: string;
  /** "Matrix, The (1999)" becomes "The Matrix (1999)". Default false: titles are as in the file. */
  normaliseTitles?: boolean;
  /** Default true: every file is read once for its SHA-256. */
  checksum?: boolean;
  signal?: AbortSignal;
}

/**
 * Opens an event log, having found out from the names and first lines of its files how it is laid out.
 *
 * @throws PathNotFoundError, EmptyFileError, MissingColumnError, BinaryFileError, UnknownLayoutError, DamagedFileError
 */
export async function openDataset(location: string, options: OpenOptions = {}): Promise<Dataset> {
  const reader = await findReader(location, options);
  const { layout, contents, eventBatches, items, users, source, licence, notes } = reader;
  const files = [];
  for (const file of reader.files) files.push(await describeFile(file, options));
  return {
    name: options.name ?? path.basename(path.resolve(location)),
    simulated: false,
    layout,
    time: { unit: contents.time ?? 'order' },
    events: flatten(eventBatches),
    eventBatches,
    items,
    users,
    schema: suggestSchema(contents),
    provenance: { source, licence, files, notes },
  };
}

async function findReader(location: string, options: OpenOptions): Promise<SourceReader> {
  const info = await stat(location).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new PathNotFoundError(location) : error;
  });
  const folder = info.isDirectory() ? location : path.dirname(location);
  const names = new Set(await readdir(folder));
  for (const [layout, files] of Object.entries(movieLensFiles)) {
    if (names.has(files.ratings)) return readMovieLens(folder, layout as MovieLensLayout, names, options);
  }
  throw new UnknownLayoutError(
    location,
    [...names],
    Object.entries(movieLensFiles).map(([layout, { ratings }]) => `${ratings} (${layout})`),
  );
}
