import path from 'node:path';

import { malformed, sourceLine } from './dataset.js';
import type { Item, Row } from './dataset.js';
import { readJsonLines } from './json-lines.js';
import type { JsonRecord } from './json-lines.js';
import type { ItemTables } from './item-tables.js';
import type { SourceReader } from './source-reader.js';
import { stream } from './streams.js';
import { idOf, secondsOf, textOf, textsOf } from './values.js';

export type ReviewLayout = 'amazon-2014' | 'amazon-2018' | 'amazon-2023' | 'google-local';

interface ReviewFormat {
  user: string;
  item: string;
  time: string;
  timeUnit: 's' | 'ms';
  rating: string;
  text: string;
  /** Columns of a review that are kept under these names. */
  more: Record<string, string>;
  itemTitle: string;
  itemCategories: readonly string[];
  itemMore: Record<string, string>;
  source: string;
}

const amazonSource = 'Amazon reviews, McAuley Lab, UC San Diego';

/** What the releases of 2014 and 2018 have in common. */
const amazonBefore2023 = {
  user: 'reviewerID',
  item: 'asin',
  time: 'unixReviewTime',
  timeUnit: 's',
  rating: 'overall',
  text: 'reviewText',
  more: { summary: 'summary', verified: 'verified' },
  itemTitle: 'title',
  itemMore: { brand: 'brand', price: 'price' },
} as const;

const formats: Record<ReviewLayout, ReviewFormat> = {
  'amazon-2014': {
    ...amazonBefore2023,
    itemCategories: ['categories'],
    source: `${amazonSource}, 2014 (cite McAuley et al., SIGIR 2015)`,
  },
  'amazon-2018': {
    ...amazonBefore2023,
    itemCategories: ['category'],
    source: `${amazonSource}, 2018 (cite Ni et al., EMNLP 2019)`,
  },
  'amazon-2023': {
    user: 'user_id',
    item: 'parent_asin',
    time: 'timestamp',
    timeUnit: 'ms',
    rating: 'rating',
    text: 'text',
    more: { summary: 'title', verified: 'verified_purchase' },
    itemTitle: 'title',
    itemCategories: ['main_category', 'categories'],
    itemMore: { brand: 'store', price: 'price' },
    source: `${amazonSource}, 2023 (cite Hou et al., 2024)`,
  },
  'google-local': {
    user: 'user_id',
    item: 'gmap_id',
    time: 'time',
    timeUnit: 'ms',
    rating: 'rating',
    text: 'text',
    more: { title: 'business_name', state: 'state' },
    itemTitle: 'name',
    itemCategories: ['category'],
    itemMore: { address: 'address' },
    source: 'Google Local reviews, McAuley Lab, UC San Diego (cite Li et al., ACL 2022, and Yan et al., SIGIR 2023)',
  },
};

/** Which layout a record is of, and whether it is a review or an item's metadata. */
export function reviewLayout(record: Record<string, unknown>): { layout: ReviewLayout; kind: 'reviews' | 'items' } | undefined {
  const has = (...keys: string[]) => keys.every((key) => key in record);
  if (has('reviewerID', 'asin', 'unixReviewTime'))
    return { layout: 'verified' in record ? 'amazon-2018' : 'amazon-2014', kind: 'reviews' };
  if (has('user_id', 'parent_asin', 'timestamp')) return { layout: 'amazon-2023', kind: 'reviews' };
  if (has('user_id', 'gmap_id', 'time')) return { layout: 'google-local', kind: 'reviews' };
  if (has('gmap_id') && has('name')) return { layout: 'google-local', kind: 'items' };
  if (has('parent_asin', 'title')) return { layout: 'amazon-2023', kind: 'items' };
  if (has('asin') && !has('reviewerID')) return { layout: 'category' in record ? 'amazon-2018' : 'amazon-2014', kind: 'items' };
  return undefined;
}

/** A file of items as the reviews' owner publishes it. */
export interface Metadata {
  file: string;
  layout: ReviewLayout;
}

/** A file of items with any columns. */
export interface OtherItems {
  files: readonly string[];
  tables: ItemTables;
}

/** Reviews in JSON lines, with titles and categories joined from the files of items, when there are some. */
export function readReviews(
  layout: ReviewLayout,
  files: readonly string[],
  metadata: readonly Metadata[],
  other?: OtherItems,
): SourceReader {
  const format = formats[layout];
  const known = metadata.length > 0 || other !== undefined;
  const items = known ? knownItems(layout, metadata, other) : layout === 'google-local' ? namedPlaces(format, files) : undefined;
  return {
    layout,
    contents: { time: 's', rating: true, text: true, categories: metadata.length > 0 || other?.tables.categories === true },
    eventBatches: stream(async function* () {
      const catalogue = new Map<string, { title: string; categories: string[] }>();
      if (known) {
        for await (const { id, title, categories } of items!) if (id !== '') catalogue.set(id, { title, categories });
      }
      for (const file of files) {
        for await (const records of readJsonLines(file)) yield records.map((record) => reviewRow(format, record, catalogue));
      }
    }),
    items,
    honours: ['metadata', ...(other?.tables.honours ?? [])],
    files: [...files, ...metadata.map(({ file }) => file), ...(other?.files ?? [])],
    source: format.source,
    licence: 'No licence is stated: for research, as its authors ask; do not redistribute',
    notes: known
      ? []
      : [`No metadata file was found: the items have ${items ? 'no categories' : 'no titles and no categories'}.`],
  };
}

function reviewRow(
  format: ReviewFormat,
  { value, line, problem }: JsonRecord,
  catalogue: ReadonlyMap<string, { title: string; categories: string[] }>,
): Row {
  if (problem !== undefined) return { [sourceLine]: line, [malformed]: problem };
  const item = idOf(value[format.item]);
  const row: Row = {
    [sourceLine]: line,
    user: idOf(value[format.user]),
    item,
    time: secondsOf(value[format.time], format.timeUnit),
    rating: value[format.rating] ?? undefined,
  };
  const text = textOf(value[format.text]);
  if (text !== undefined) row.text = text;
  for (const [name, column] of Object.entries(format.more)) {
    const more = value[column];
    if (more !== undefined && more !== null && more !== '') row[name] = more;
  }
  const known = item === undefined ? undefined : catalogue.get(item);
  if (known) {
    row.title = known.title;
    row.categories = known.categories;
  }
  return row;
}

function knownItems(reviews: ReviewLayout, metadata: readonly Metadata[], other: OtherItems | undefined): AsyncIterable<Item> {
  return stream(async function* () {
    for (const { file, layout } of metadata) {
      // Releases with the same ids are told apart by the reviews: a first item without a category looks like the older one.
      const format = formats[formats[layout].item === formats[reviews].item ? reviews : layout];
      for await (const records of readJsonLines(file)) {
        for (const record of records) yield metadataItem(format, record);
      }
    }
    if (other) yield* other.tables.items;
  });
}

function metadataItem(format: ReviewFormat, { value, line, problem }: JsonRecord): Item {
  const item: Item & Record<symbol, unknown> = {
    [sourceLine]: line,
    id: idOf(value[format.item]) ?? '',
    title: textOf(value[format.itemTitle]) ?? '',
    categories: textsOf(format.itemCategories.map((column) => value[column])),
  };
  if (problem !== undefined) item[malformed] = problem;
  for (const [name, column] of Object.entries(format.itemMore)) {
    const more = value[column];
    if (more !== undefined && more !== null && more !== '') item[name] = more;
  }
  return item;
}

/** Without metadata, the names that stand in the reviews themselves; each place once. */
function namedPlaces(format: ReviewFormat, files: readonly string[]): AsyncIterable<Item> {
  return stream(async function* () {
    const seen = new Set<string>();
    for (const file of files) {
      for await (const records of readJsonLines(file)) {
        for (const { value, line } of records) {
          const id = idOf(value[format.item]);
          if (id === undefined || seen.has(id)) continue;
          seen.add(id);
          yield { [sourceLine]: line, id, title: textOf(value[format.more.title]) ?? '', categories: [] } as Item;
        }
      }
    }
  });
}

/** True for the file names under which metadata is published. */
export function looksLikeMetadata(file: string): boolean {
  return /^meta[-_]/i.test(path.basename(file));
}
