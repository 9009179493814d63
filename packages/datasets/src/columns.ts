import { InvalidOptionError, MissingColumnError } from './errors.js';

/**
 * Which column of a file is what. `user` and `item` are needed; the events are given under these names. Any other name keeps a
 * column of your own: `{ device: 'device_type' }`.
 */
export interface ColumnMapping {
  user?: string;
  item?: string;
  time?: string;
  rating?: string;
  title?: string;
  categories?: string;
  text?: string;
  [more: string]: string | undefined;
}

/** Which column of a file of items is what. */
export interface ItemColumnMapping {
  id?: string;
  title?: string;
  categories?: string;
}

/** Usual names, compared without case, spaces, dashes and underscores. */
const usual: Record<string, readonly string[]> = {
  user: ['user', 'userid', 'uid', 'customer', 'customerid', 'visitorid', 'reviewerid', 'accountid', 'memberid', 'sessionid'],
  item: [
    'item',
    'itemid',
    'movieid',
    'productid',
    'product',
    'articleid',
    'trackid',
    'songid',
    'bookid',
    'parentasin',
    'asin',
    'sku',
    'contentid',
  ],
  time: ['time', 'timestamp', 'ts', 'datetime', 'date', 'eventtime', 'createdat', 'unixtime', 'occurredat'],
  rating: ['rating', 'score', 'stars', 'overall'],
  title: ['title', 'itemtitle', 'itemname', 'productname', 'name'],
  categories: ['categories', 'genres', 'category', 'genre', 'tags'],
  text: ['text', 'reviewtext', 'review', 'comment', 'body'],
};
const usualItems: Record<keyof ItemColumnMapping, readonly string[]> = {
  id: ['id', ...usual.item],
  title: usual.title,
  categories: usual.categories,
};

const bare = (name: string) => name.toLowerCase().replace(/[\s_-]/g, '');

/**
 * The columns to read: those asked for, which must be there, and for the roles not named those with a usual name.
 *
 * @throws MissingColumnError with the columns that are there.
 */
export function resolveColumns(file: string, present: readonly string[], wanted: ColumnMapping = {}): Record<string, string> {
  if (Object.keys(wanted).some((role) => role === '__proto__'))
    throw new InvalidOptionError('columns', '__proto__', 'names of your own');
  return resolve(file, present, wanted, usual, ['user', 'item'], 'columns');
}

export function resolveItemColumns(
  file: string,
  present: readonly string[],
  wanted: ItemColumnMapping = {},
): Record<string, string> {
  return resolve(file, present, { ...wanted }, usualItems, ['id'], 'itemColumns');
}

/** True when a table with these columns can be a list of items: it has an id, a title, and no user, nor all the columns of the events. */
export function looksLikeItems(present: readonly string[], events: ColumnMapping = {}): boolean {
  const names = new Set(present.map(bare));
  const named = Object.values(events).filter((column) => column !== undefined);
  return (
    !usual.user.some((name) => names.has(name)) &&
    !(events.user !== undefined && named.every((column) => present.includes(column))) &&
    usualItems.id.some((name) => names.has(name)) &&
    usual.title.some((name) => names.has(name))
  );
}

function resolve(
  file: string,
  present: readonly string[],
  wanted: Readonly<Record<string, string | undefined>>,
  names: Readonly<Record<string, readonly string[]>>,
  needed: readonly string[],
  option: 'columns' | 'itemColumns',
): Record<string, string> {
  const columns: Record<string, string> = {};
  for (const [role, column] of Object.entries(wanted)) {
    if (column === undefined) continue;
    if (!present.includes(column)) throw new MissingColumnError(file, role, column, present, option);
    columns[role] = column;
  }
  const taken = new Set(Object.values(columns));
  for (const [role, candidates] of Object.entries(names)) {
    if (columns[role] !== undefined) continue;
    const found = candidates
      .map((name) => present.find((column) => bare(column) === name && !taken.has(column)))
      .find((name) => name !== undefined);
    if (found !== undefined) {
      columns[role] = found;
      taken.add(found);
    } else if (needed.includes(role)) throw new MissingColumnError(file, role, undefined, present, option);
  }
  return columns;
}
