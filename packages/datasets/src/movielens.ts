import path from 'node:path';

import { malformed, sourceLine } from './dataset.js';
import type { Item, Row, TimeUnit } from './dataset.js';
import { readDelimited } from './delimited.js';
import type { DelimitedFormat, DelimitedRecord } from './delimited.js';
import { EmptyFileError, MissingColumnError } from './errors.js';
import { numberOrRaw } from './values.js';
import { stream } from './streams.js';
import { detectEncoding, sniffText } from './text-file.js';
import type { TextEncoding } from './text-file.js';
import type { SourceReader } from './source-reader.js';
import { parseLine } from './delimited.js';

export type MovieLensLayout = 'movielens-100k' | 'movielens-1m' | 'movielens-latest';

interface Files {
  ratings: string;
  items: string;
  users?: string;
}

/** The files of each layout, as GroupLens names them. 10M is laid out as 1M, without users; 20M, 25M and 32M as `latest`. */
export const movieLensFiles: Record<MovieLensLayout, Files> = {
  'movielens-100k': { ratings: 'u.data', items: 'u.item', users: 'u.user' },
  'movielens-1m': { ratings: 'ratings.dat', items: 'movies.dat', users: 'users.dat' },
  'movielens-latest': { ratings: 'ratings.csv', items: 'movies.csv' },
};

/** In the order of the flags in `u.item`. */
const genres100k =
  'unknown|Action|Adventure|Animation|Children|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western'.split(
    '|',
  );

const ages1m: Record<string, string> = {
  '1': 'under 18',
  '18': '18-24',
  '25': '25-34',
  '35': '35-44',
  '45': '45-49',
  '50': '50-55',
  '56': '56 and over',
};
const occupations1m = (
  'other|academic/educator|artist|clerical/admin|college/grad student|customer service|doctor/health care|executive/managerial|farmer|' +
  'homemaker|K-12 student|lawyer|programmer|retired|sales/marketing|scientist|self-employed|technician/engineer|tradesman/craftsman|unemployed|writer'
).split('|');

const plain = (delimiter: string, fields: number, encoding: TextEncoding): DelimitedFormat => ({
  delimiter,
  fields,
  encoding,
  quotes: false,
  header: false,
});

/**
 * A folder in one of MovieLens's layouts. Titles and genres are joined to the events; titles stay as they are
 * ("Matrix, The (1999)") unless `normaliseTitles`.
 */
export async function readMovieLens(
  folder: string,
  layout: MovieLensLayout,
  present: ReadonlySet<string>,
  { normaliseTitles = false }: { normaliseTitles?: boolean } = {},
): Promise<SourceReader> {
  const files = movieLensFiles[layout];
  const at = (name: string) => path.join(folder, name);
  const ratings = await ratingsFormat(at(files.ratings), layout);
  const hasItems = present.has(files.items);
  const hasUsers = files.users !== undefined && present.has(files.users);
  const items = hasItems
    ? itemStream(at(files.items), layout, await itemFormat(at(files.items), layout), normaliseTitles)
    : undefined;
  const notes =
    ratings.time === 'order'
      ? [
          `The fourth field of ${files.ratings} is the order of a user's events, not a time: there are no gaps, hours or weekdays.`,
        ]
      : [];
  return {
    layout,
    contents: { time: ratings.time, rating: true, categories: hasItems },
    eventBatches: stream(async function* () {
      const catalogue = new Map<string, Item>();
      if (items) for await (const item of items) catalogue.set(item.id, item);
      for await (const records of readDelimited(at(files.ratings), ratings.format))
        yield records.map((record) => ratingRow(record, catalogue));
    }),
    items,
    users: hasUsers ? userStream(at(files.users!), layout) : undefined,
    honours: ['normaliseTitles'],
    files: [at(files.ratings), ...(hasItems ? [at(files.items)] : []), ...(hasUsers ? [at(files.users!)] : [])],
    source: 'MovieLens, GroupLens Research, University of Minnesota (grouplens.org/datasets/movielens)',
    licence:
      'MovieLens terms of use: research, no redistribution without permission; cite Harper and Konstan 2015, doi 10.1145/2827872',
    notes: hasItems ? notes : [...notes, `There is no ${files.items}: the films have no titles and no genres.`],
  };
}

async function ratingsFormat(file: string, layout: MovieLensLayout): Promise<{ format: DelimitedFormat; time: TimeUnit }> {
  const { lines } = await sniffText(file);
  const name = path.basename(file);
  if (layout === 'movielens-latest') {
    const header = parseLine(lines[0], ',');
    checkHeader(name, header, { user: 'userId', item: 'movieId', rating: 'rating', time: 'timestamp' }, 'columns');
    if (lines.slice(1).every((line) => line === '')) throw new EmptyFileError(name);
    return {
      format: { delimiter: ',', fields: header.length, encoding: 'utf-8', quotes: true, header: true },
      time: timeUnit(lines.slice(1), ','),
    };
  }
  const delimiter = layout === 'movielens-100k' ? '\t' : '::';
  return { format: plain(delimiter, 4, 'utf-8'), time: timeUnit(lines, delimiter) };
}

/** Times of MovieLens are seconds since 1970 and began in 1995; small whole numbers can only be an order. */
function timeUnit(lines: readonly string[], delimiter: string): TimeUnit {
  const values = lines.map((line) => Number(line.split(delimiter)[3])).filter((value) => Number.isFinite(value));
  return values.length > 0 && values.every((value) => Number.isInteger(value) && value >= 0 && value < 10_000_000)
    ? 'order'
    : 's';
}

async function itemFormat(file: string, layout: MovieLensLayout): Promise<DelimitedFormat> {
  const { lines } = await sniffText(file);
  const encoding = await detectEncoding(file);
  if (layout === 'movielens-100k') return plain('|', 24, encoding);
  if (layout === 'movielens-1m') return plain('::', 3, encoding);
  const columns = { id: 'movieId', title: 'title', categories: 'genres' };
  checkHeader(path.basename(file), parseLine(lines[0], ','), columns, 'itemColumns');
  return { delimiter: ',', fields: 3, encoding, quotes: true, header: true };
}

/** The columns stand in this order. */
function checkHeader(
  file: string,
  header: readonly string[],
  wanted: Readonly<Record<string, string>>,
  option: 'columns' | 'itemColumns',
): void {
  for (const [at, [role, column]] of Object.entries(wanted).entries())
    if (header[at] !== column) throw new MissingColumnError(file, role, column, header, option);
}

function ratingRow({ fields, line, problem }: DelimitedRecord, catalogue: ReadonlyMap<string, Item>): Row {
  if (problem !== undefined) return { [sourceLine]: line, [malformed]: problem };
  const [user, item, rating, time] = fields;
  const row: Row = { [sourceLine]: line, user, item, time: numberOrRaw(time), rating: numberOrRaw(rating) };
  const film = catalogue.get(item);
  if (film) {
    row.title = film.title;
    row.categories = film.categories;
  }
  return row;
}

function itemStream(file: string, layout: MovieLensLayout, format: DelimitedFormat, normalise: boolean): AsyncIterable<Item> {
  return stream(async function* () {
    for await (const records of readDelimited(file, format)) {
      for (const { fields, line, problem } of records) {
        if (problem !== undefined) {
          yield { [sourceLine]: line, [malformed]: problem, id: fields[0] ?? '', title: fields[1] ?? '', categories: [] } as Item;
          continue;
        }
        const [id, rawTitle] = fields;
        const title = normalise ? normaliseTitle(rawTitle) : rawTitle;
        const categories =
          layout === 'movielens-100k' ? genres100k.filter((_, genre) => fields[5 + genre] === '1') : genreList(fields[2]);
        const year = /\((\d{4})\)\s*$/.exec(rawTitle)?.[1];
        yield { [sourceLine]: line, id, title, categories, ...(year && { year: Number(year) }) } as Item;
      }
    }
  });
}

function genreList(text: string): string[] {
  return text === '' || text === '(no genres listed)' ? [] : text.split('|');
}

/** "Matrix, The (1999)" to "The Matrix (1999)". */
export function normaliseTitle(title: string): string {
  const match = /^(.*), (The|A|An|Le|La|Les|L'|Il|El|Los|Las|Das|Der|Die)( \(.*)?$/.exec(title);
  return match ? `${match[2]}${match[2].endsWith("'") ? '' : ' '}${match[1]}${match[3] ?? ''}` : title;
}

function userStream(file: string, layout: MovieLensLayout): AsyncIterable<Row> {
  return stream(async function* () {
    const format = layout === 'movielens-100k' ? plain('|', 5, 'utf-8') : plain('::', 5, 'utf-8');
    for await (const records of readDelimited(file, format)) {
      for (const { fields, line, problem } of records) {
        if (problem !== undefined) yield { [sourceLine]: line, [malformed]: problem };
        else if (layout === 'movielens-100k') {
          const [user, age, gender, occupation, zip] = fields;
          yield { [sourceLine]: line, user, age: numberOrRaw(age), gender, occupation, zip };
        } else {
          const [user, gender, age, occupation, zip] = fields;
          yield {
            [sourceLine]: line,
            user,
            gender,
            ageGroup: ages1m[age] ?? age,
            occupation: occupations1m[Number(occupation)] ?? occupation,
            zip,
          };
        }
      }
    }
  });
}
