import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import { readAmazonRatings, sniffAmazonRatings } from './amazon-ratings.js';
import { looksLikeItems } from './columns.js';
import { PathNotFoundError, UnknownLayoutError } from './errors.js';
import { readGeneric } from './generic.js';
import { openItemTables } from './item-tables.js';
import type { GenericOptions } from './generic.js';
import { movieLensFiles, readMovieLens } from './movielens.js';
import type { MovieLensLayout } from './movielens.js';
import { looksLikeMetadata, readReviews, reviewLayout } from './reviews.js';
import type { Metadata, ReviewLayout } from './reviews.js';
import type { SourceReader } from './source-reader.js';
import { openTable, tableFormat } from './tables.js';
import type { Table } from './tables.js';

export interface DetectOptions extends GenericOptions {
  /** A file of items (Amazon's or Google's metadata, or any table with id and title), where the folder does not hold it. */
  metadata?: string;
  normaliseTitles?: boolean;
}

const lookedFor: readonly string[] = [
  ...Object.entries(movieLensFiles).map(([layout, { ratings, items }]) => `${ratings} and ${items} (${layout})`),
  'JSON lines with reviewerID, asin (Amazon 2014, 2018)',
  'JSON lines with user_id, parent_asin (Amazon 2023)',
  'JSON lines with user_id, gmap_id (Google Local)',
  'one kind of .csv, .tsv, .jsonl (also .gz) or .parquet with a user and an item column',
];

/** Finds the reader for a file or folder, from the names of the files and their first lines. */
export async function detect(location: string, options: DetectOptions): Promise<SourceReader> {
  const info = await statOrThrow(location);
  if (options.metadata !== undefined) await statOrThrow(options.metadata);
  if (!info.isDirectory()) return detectFile(location, options);
  const names = (await readdir(location)).filter((name) => !name.startsWith('.') && name !== '__MACOSX').sort();
  for (const [layout, files] of Object.entries(movieLensFiles)) {
    if (names.includes(files.ratings) && isMovieLens(layout as MovieLensLayout, names, options))
      return readMovieLens(location, layout as MovieLensLayout, new Set(names), options);
  }
  const data = names
    .filter((name) => tableFormat(name) !== undefined && !/^(readme|licen[cs]e)\b/i.test(name))
    .map((name) => path.join(location, name));
  if (data.length > 0) return detectTables(location, names, data, options);
  // An unpacked archive often holds everything in one folder of its own.
  if (names.length === 1 && (await stat(path.join(location, names[0]))).isDirectory())
    return detect(path.join(location, names[0]), options);
  throw new UnknownLayoutError(location, names, lookedFor, names.length === 0 ? 'the folder is empty' : '');
}

/** Whether ratings of this name are MovieLens's: those of `latest` have a usual name, and columns that could be named otherwise. */
function isMovieLens(layout: MovieLensLayout, names: readonly string[], { columns, itemColumns }: DetectOptions): boolean {
  if (layout !== 'movielens-latest') return true;
  return columns === undefined && itemColumns === undefined && names.includes(movieLensFiles[layout].items);
}

async function statOrThrow(location: string) {
  return stat(location).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' || error.code === 'ENOTDIR' ? new PathNotFoundError(location) : error;
  });
}

async function detectFile(file: string, options: DetectOptions): Promise<SourceReader> {
  const folder = path.dirname(file);
  const name = path.basename(file);
  const beside = await readdir(folder);
  for (const [layout, files] of Object.entries(movieLensFiles)) {
    if (name === files.ratings && isMovieLens(layout as MovieLensLayout, beside, options))
      return readMovieLens(folder, layout as MovieLensLayout, new Set(beside), options);
  }
  if (tableFormat(file) === undefined)
    throw new UnknownLayoutError(file, [name], lookedFor, 'the ending of its name says nothing');
  return detectTables(file, [name], [file], options);
}

async function detectTables(
  location: string,
  names: readonly string[],
  files: readonly string[],
  options: DetectOptions,
): Promise<SourceReader> {
  const only = files.length === 1 && options.columns === undefined ? await sniffAmazonRatings(files[0]) : undefined;
  if (only) return readAmazonRatings(files[0], only);
  const given = options.metadata === undefined ? [] : [options.metadata];
  const tables: Table[] = [];
  for (const file of files)
    if (!given.some((one) => path.resolve(one) === path.resolve(file))) tables.push(await openTable(file, options.delimiter));
  if (options.columns === undefined) {
    const reviews = sortReviews(location, names, tables);
    if (reviews) return openReviews(reviews, given, options);
  }
  const events = tables.filter(
    ({ file, columns }) => tables.length === 1 || !(looksLikeMetadata(file) || looksLikeItems(columns, options.columns)),
  );
  const items = tables.filter((table) => !events.includes(table)).map(({ file }) => file);
  if (events.length === 0) throw new UnknownLayoutError(location, names, lookedFor, 'there are items, but no events');
  const [first] = events;
  const other = events.find(
    ({ format, columns }) => format !== first.format || (format !== 'jsonl' && columns.join('\n') !== first.columns.join('\n')),
  );
  if (other) {
    const [one, two] = [first.file, other.file].map((file) => path.basename(file));
    throw new UnknownLayoutError(
      location,
      names,
      lookedFor,
      `${one} and ${two} are different tables: which one holds the events?`,
    );
  }
  return readGeneric(events, [...items, ...given], options);
}

interface Reviews {
  layout: ReviewLayout;
  files: string[];
  metadata: Metadata[];
}

/** Reviews with the given files of items, which need not be metadata of the same owner. */
async function openReviews({ layout, files, metadata }: Reviews, given: readonly string[], options: DetectOptions) {
  const others: string[] = [];
  for (const file of given) {
    const { format, sample } = await openTable(file, options.delimiter);
    const found = format === 'jsonl' ? reviewLayout(sample[0]) : undefined;
    if (found?.kind === 'items') metadata.push({ file, layout: found.layout });
    else others.push(file);
  }
  const tables = await openItemTables(others, options);
  return readReviews(layout, files, metadata, tables && { files: others, tables });
}

/** Review files and their metadata, when the tables are such. */
function sortReviews(location: string, names: readonly string[], tables: readonly Table[]): Reviews | undefined {
  const files: string[] = [];
  const metadata: Metadata[] = [];
  const layouts = new Set<ReviewLayout>();
  for (const { file, format, sample } of tables) {
    const found = format === 'jsonl' ? reviewLayout(sample[0]) : undefined;
    if (!found) continue;
    if (found.kind === 'items') metadata.push({ file, layout: found.layout });
    else {
      files.push(file);
      layouts.add(found.layout);
    }
  }
  if (files.length === 0) return undefined;
  if (layouts.size > 1)
    throw new UnknownLayoutError(location, names, lookedFor, `it mixes ${[...layouts].join(' and ')}: give each its folder`);
  return { layout: [...layouts][0], files, metadata };
}
