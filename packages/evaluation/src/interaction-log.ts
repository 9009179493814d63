import { InvalidLogError, InvalidOptionError } from './errors.js';

/** Stands in `items` for an event whose item is outside the vocabulary: it is history to everybody and a miss to every ranking. */
export const UNKNOWN_ITEM = -1;

/**
 * Who met which item in which order: users in compressed rows, items as indices. U users, N events, V items.
 * Events of one user stand in time order; events of equal time stand in file order.
 */
export interface InteractionLog {
  /** [U] */
  readonly users: readonly string[];
  /** [U + 1]: user u has the events offsets[u] .. offsets[u + 1] - 1 */
  readonly offsets: Int32Array;
  /** [N], indices into `itemIds`, or {@link UNKNOWN_ITEM} */
  readonly items: Int32Array;
  /** [V] */
  readonly itemIds: readonly string[];
  /** [V] */
  readonly titles?: readonly string[];
  /** [V] */
  readonly categories?: readonly (readonly string[])[];
  /** [N], unix seconds or any number that grows; NaN where unknown */
  readonly times?: Float64Array;
}

/** What {@link interactions} reads of tokenised events; `EventColumns` of `@user-llm/event-tokenizer` is one. */
export interface EventColumnsLike {
  readonly users: readonly string[];
  /** [U + 1] */
  readonly offsets: Int32Array;
  /** [N] */
  readonly times?: Float64Array;
  readonly fields: Readonly<Record<string, { readonly kind: string; readonly ids?: Int32Array }>>;
}

/** An item of the catalogue, as a data set gives it. */
export interface CatalogueItem {
  readonly id: string;
  readonly title?: string;
  readonly categories?: readonly string[];
}

/** Options of {@link interactions}. */
export interface InteractionsOptions {
  /** the field of `events` that holds the item */
  readonly itemField: string;
  /** the field's values by id, the special ids first */
  readonly vocabulary: readonly string[];
  /** titles and categories; items outside the vocabulary are not used */
  readonly items?: Iterable<CatalogueItem>;
  /** ids below this are padding, mask, unknown and missing, not items. Default 4. */
  readonly firstId?: number;
}

/**
 * An {@link InteractionLog} from tokenised events. Item index = id - firstId. No event is dropped or moved, so position p of the
 * log is position p of the columns; events of unknown items become {@link UNKNOWN_ITEM}.
 *
 * @throws InvalidLogError when the item field is not categorical or a user's events are out of time order
 */
export function interactions(events: EventColumnsLike, options: InteractionsOptions): InteractionLog {
  const { itemField, vocabulary, firstId = 4 } = options;
  const ids = events.fields[itemField]?.ids;
  if (!ids || events.fields[itemField].kind !== 'categorical') {
    const known = Object.entries(events.fields).flatMap(([name, column]) => (column.kind === 'categorical' ? [name] : []));
    throw new InvalidLogError(
      `The events have no categorical field "${itemField}". Categorical fields: ${known.join(', ') || 'none'}. Name one as itemField.`,
      itemField,
    );
  }
  const itemIds = vocabulary.slice(firstId);
  const items = new Int32Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] >= vocabulary.length) {
      throw new InvalidLogError(
        `Event ${i} has item id ${ids[i]}, and the vocabulary of "${itemField}" ends at ${vocabulary.length - 1}. Use the vocabulary of the tokenizer that encoded the events.`,
        itemField,
      );
    }
    items[i] = ids[i] < firstId ? UNKNOWN_ITEM : ids[i] - firstId;
  }
  const log = {
    users: events.users,
    offsets: events.offsets,
    items,
    itemIds,
    times: events.times,
    ...catalogue(itemIds, options.items),
  };
  checkLog(log);
  return log;
}

/** One event, as {@link interactionsFromRows} reads it. */
export interface InteractionRow {
  readonly user: string | number;
  readonly item: string | number;
  readonly time?: number;
  readonly title?: string;
  readonly categories?: readonly string[];
}

/**
 * An {@link InteractionLog} from plain rows, without a tokenizer: users and items are numbered as they first appear, each user's
 * events are sorted by time, ties keep their order in `rows`, and rows without a time their place among the user's. Of an item's rows
 * the first that has a title counts, and the first that has categories.
 *
 * @throws InvalidLogError, with the row's place, where a user or an item is neither a string nor a number, or a time is no number
 */
export function interactionsFromRows(
  rows: Iterable<InteractionRow>,
  options: { readonly items?: Iterable<CatalogueItem> } = {},
): InteractionLog {
  const userIndex = new Map<string, number>();
  const itemIndex = new Map<string, number>();
  const found: CatalogueItem[] = [];
  const perUser: { item: number; time: number }[][] = [];
  let place = 0;
  for (const row of rows) {
    checkRow(row, place++);
    const user = String(row.user);
    const id = String(row.item);
    let item = itemIndex.get(id);
    if (item === undefined) {
      item = itemIndex.size;
      itemIndex.set(id, item);
      found.push({ id, title: row.title, categories: row.categories });
    } else if (row.title !== undefined || row.categories) {
      const { title = row.title, categories = row.categories } = found[item];
      found[item] = { id, title, categories };
    }
    let position = userIndex.get(user);
    if (position === undefined) {
      position = userIndex.size;
      userIndex.set(user, position);
      perUser.push([]);
    }
    perUser[position].push({ item, time: row.time ?? NaN });
  }
  const offsets = new Int32Array(perUser.length + 1);
  perUser.forEach((events, user) => (offsets[user + 1] = offsets[user] + events.length));
  const items = new Int32Array(offsets[perUser.length]);
  const times = new Float64Array(items.length);
  perUser.forEach((events, user) => {
    // Array.prototype.sort is stable: equal times keep the order of the rows
    const timed = events.filter(({ time }) => !Number.isNaN(time)).sort((left, right) => left.time - right.time);
    let next = 0;
    events.forEach((row, i) => {
      const event = Number.isNaN(row.time) ? row : timed[next++];
      items[offsets[user] + i] = event.item;
      times[offsets[user] + i] = event.time;
    });
  });
  const itemIds = [...itemIndex.keys()];
  const described = options.items ?? (found.some((item) => item.title !== undefined || item.categories) ? found : undefined);
  const log = { users: [...userIndex.keys()], offsets, items, itemIds, times, ...catalogue(itemIds, described) };
  checkLog(log);
  return log;
}

/** A row of other names or types would become the event of a user "undefined", or stand where its time does not say. */
function checkRow(row: InteractionRow, place: number): void {
  const fields: Readonly<Record<string, unknown>> = Object(row) as Record<string, unknown>;
  for (const field of ['user', 'item']) {
    const value = fields[field];
    if (['string', 'number', 'bigint'].includes(typeof value) && !Number.isNaN(value)) continue;
    throw new InvalidLogError(
      `rows[${place}].${field} must be a string or a number and is ${kindOf(value)}; the row has ${Object.keys(fields).join(', ') || 'no fields'}. Give rows { user, item, time }.`,
      field,
    );
  }
  const { time } = fields;
  if (time === undefined || time === null || typeof time === 'number') return;
  throw new InvalidLogError(
    `rows[${place}].time must be a number and is ${kindOf(time)}. Give unix seconds (of a date: Date.parse(text) / 1000) or any number that grows, or leave it out.`,
    'time',
  );
}

/** 'a string', 'an object', 'undefined': what a value is, without the value. */
function kindOf(value: unknown): string {
  if (value === undefined || value === null || Number.isNaN(value)) return String(value);
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`;
}

/** Throws an {@link InvalidLogError} where lengths, ids, indices or the order of a user's events are wrong. */
export function checkLog(log: InteractionLog): void {
  checkParts(log);
  const { users, offsets, items, itemIds, times } = log;
  if (offsets.length !== users.length + 1 || offsets[0] !== 0 || offsets[users.length] !== items.length) {
    throw new InvalidLogError(
      `offsets must be [users + 1] and run from 0 to the number of events; got ${offsets.length} offsets ending at ${offsets[offsets.length - 1]} for ${users.length} users and ${items.length} events.`,
      'offsets',
    );
  }
  for (const [field, values, wanted] of [
    ['times', times, items.length],
    ['titles', log.titles, itemIds.length],
    ['categories', log.categories, itemIds.length],
  ] as const) {
    if (values && values.length !== wanted)
      throw new InvalidLogError(`${field} has ${values.length} entries; ${wanted} are needed.`, field);
  }
  const ids = new Set<string>();
  for (const id of itemIds) {
    if (ids.has(id)) throw new InvalidLogError(`itemIds has "${id}" twice. Give every item one place.`, 'itemIds');
    ids.add(id);
  }
  for (let i = 0; i < items.length; i++) {
    if (items[i] < UNKNOWN_ITEM || items[i] >= itemIds.length) {
      throw new InvalidLogError(`Event ${i} has item index ${items[i]}; there are ${itemIds.length} items.`, 'items');
    }
  }
  for (let user = 0; user < users.length; user++) {
    if (offsets[user + 1] < offsets[user])
      throw new InvalidLogError(`offsets fall at user "${users[user]}".`, 'offsets', users[user]);
    for (let i = offsets[user] + 1; times && i < offsets[user + 1]; i++) {
      if (times[i] < times[i - 1]) {
        throw new InvalidLogError(
          `The events of user "${users[user]}" are not in time order. Sort them by time, ties in file order.`,
          'times',
          users[user],
        );
      }
    }
  }
}

/** A log has its parts; types do not hold callers in JavaScript to that, and tokenised events look much like a log. */
function checkParts(log: Partial<InteractionLog> & { readonly fields?: unknown }): void {
  if (log?.items === undefined && log?.fields !== undefined) {
    throw new InvalidLogError(
      'These are tokenised events, not a log. Make one with interactions(events, { itemField, vocabulary }).',
      'items',
    );
  }
  // Not instanceof: an array of another realm (a worker, a test runner) is the same thing.
  const wanted = {
    users: [Array.isArray, 'an array of strings'],
    offsets: [ArrayBuffer.isView, 'an Int32Array'],
    items: [ArrayBuffer.isView, 'an Int32Array'],
    itemIds: [Array.isArray, 'an array of strings'],
  } as const;
  for (const [field, [holds, what]] of Object.entries(wanted)) {
    if (!holds(log?.[field as keyof typeof wanted])) {
      throw new InvalidLogError(
        `${field} of the log must be ${what}. Make a log with interactions(events, …) or interactionsFromRows(rows).`,
        field,
      );
    }
  }
}

function catalogue(itemIds: readonly string[], items?: Iterable<CatalogueItem>): Pick<InteractionLog, 'titles' | 'categories'> {
  if (!items) return {};
  const index = new Map(itemIds.map((id, i) => [id, i]));
  const titles = itemIds.slice();
  const categories: (readonly string[])[] = itemIds.map(() => []);
  let anyTitle = false;
  let anyCategory = false;
  for (const item of items) {
    if (typeof item?.id !== 'string') throw new InvalidOptionError('items', 'every item needs a string id.');
    const position = index.get(item.id);
    if (position === undefined) continue;
    if (item.title !== undefined) {
      titles[position] = item.title;
      anyTitle = true;
    }
    if (item.categories?.length) {
      categories[position] = item.categories;
      anyCategory = true;
    }
  }
  return { ...(anyTitle ? { titles } : {}), ...(anyCategory ? { categories } : {}) };
}
