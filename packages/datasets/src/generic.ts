import { RowColumns } from '@user-llm/event-tokenizer';
import path from 'node:path';

import { checkShards } from './tables.js';
import type { Table } from './tables.js';
import { resolveColumns } from './columns.js';
import type { ColumnMapping } from './columns.js';
import { lineOf, malformed, sourceLine } from './dataset.js';
import type { Item, Row, TimeUnit } from './dataset.js';
import { openItemTables } from './item-tables.js';
import type { ItemOptions } from './item-tables.js';
import type { SourceReader } from './source-reader.js';
import type { CellReader, DelimitedColumns } from './delimited-columns.js';
import { stream } from './streams.js';
import { categoriesOf, guessTimeUnit, idOf, numberOrRaw, perSecond, secondsOf, textOf, textsOf } from './values.js';
import type { SourceTimeUnit } from './values.js';

export interface GenericOptions extends ItemOptions {
  columns?: ColumnMapping;
  /** How the time column is written; found out from its first values by default. Times without a zone are UTC. */
  timeUnit?: SourceTimeUnit;
}

const roles = new Set(['user', 'item', 'time', 'rating', 'title', 'categories', 'text']);

/** Rows of CSV, JSON lines or Parquet with any columns; several files are read one after the other. */
export async function readGeneric(
  tables: readonly Table[],
  itemFiles: readonly string[],
  options: GenericOptions,
): Promise<SourceReader> {
  const [first] = tables;
  const columns = resolveColumns(path.basename(first.file), first.columns, options.columns);
  checkShards(tables, columns);
  const separator = options.categorySeparator ?? '|';
  const itemTables = await openItemTables(itemFiles, options);
  const unit =
    columns.time === undefined
      ? 'order'
      : (options.timeUnit ?? guessTimeUnit(first.sample.map((row) => row[columns.time])) ?? 's');
  const time: TimeUnit = unit === 'order' ? 'order' : 's';
  const more = Object.keys(columns).filter((role) => !roles.has(role));
  const isNumber = (role: string) => {
    const values = first.sample
      .map((row) => numeric(row[columns[role]]))
      .filter((value) => value !== undefined && value !== null);
    return values.length > 0 && values.every((value) => typeof value === 'number');
  };
  const eventBlocks = stream(async function* (): AsyncGenerator<Row[] | RowColumns> {
    const catalogue = new Map<string, Item>();
    if (itemTables)
      for await (const item of itemTables.items)
        if (item.id !== '') catalogue.set(item.id, { ...item, categories: Object.freeze([...item.categories]) as string[] });
    let order = 0;
    for (const table of tables) {
      if (table.readColumns) {
        const readers = Object.entries(columns).map(([role, column]) =>
          cellReader(role, table.columns.indexOf(column), unit, separator),
        );
        for await (const read of table.readColumns(readers)) {
          yield blockOf(read, Object.keys(columns), catalogue, order);
          order += read.length;
        }
        continue;
      }
      for await (const records of table.read(Object.values(columns))) {
        yield records.map(({ value, line, problem }): Row => {
          order++;
          if (problem !== undefined) return { [sourceLine]: line, [malformed]: problem };
          const row = eventRow(value, line, columns, unit, separator);
          if (columns.time === undefined) row.time = order;
          const known = typeof row.item === 'string' ? catalogue.get(row.item) : undefined;
          if (known) {
            row.title ??= known.title;
            row.categories ??= known.categories;
          }
          return row;
        });
      }
    }
  });
  return {
    layout: first.format,
    contents: {
      time,
      rating: columns.rating !== undefined,
      text: columns.text !== undefined,
      categories: columns.categories !== undefined || itemTables?.categories === true,
      categorical: more.filter((role) => !isNumber(role)),
      numbers: more.filter(isNumber),
    },
    eventBatches: stream(async function* () {
      for await (const block of eventBlocks) yield RowColumns.isInstance(block) ? [...block] : block;
    }),
    eventBlocks,
    items: itemTables?.items ?? ((columns.title ?? columns.categories) === undefined ? undefined : namedItems(eventBlocks)),
    honours: [
      'columns',
      'metadata',
      ...(columns.time === undefined ? [] : (['timeUnit'] as const)),
      ...(columns.categories === undefined ? [] : (['categorySeparator'] as const)),
      ...(first.format === 'csv' ? (['delimiter'] as const) : []),
      ...(itemTables?.honours ?? []),
    ],
    files: [...tables.map(({ file }) => file), ...itemFiles],
    source: tables.map(({ file }) => path.basename(file)).join(', '),
    licence: 'unknown: the file is yours',
    notes: [
      ...(columns.time === undefined
        ? ['There is no time column: the order of the rows is taken for the order of the events.']
        : []),
      ...(columns.time !== undefined && unit === 'order'
        ? [`The column "${columns.time}" holds small numbers: it is taken for an order, not a time.`]
        : []),
    ],
  };
}

/** Most written bags of categories that are remembered: a log repeats few combinations. */
const REMEMBERED = 65_536;

/** How a cell of text becomes the value of a role; what {@link eventRow} does for cells of any kind. */
function cellReader(role: string, field: number, unit: SourceTimeUnit, separator: string): CellReader {
  if (role === 'time') {
    const read = (cell: string) => secondsOf(cell, unit);
    return unit === 'iso' ? { field, read } : { field, divisor: perSecond[unit], read };
  }
  if (role === 'rating') return { field, divisor: 1, read: numberOrRaw };
  if (role !== 'categories') return { field, read: (cell) => cell };
  const remembered = new Map<string, readonly string[]>();
  return {
    field,
    read: (cell) => {
      let found = remembered.get(cell);
      if (found === undefined) {
        // Rows share the list: a frozen one is read once by the event tokenizer.
        found = Object.freeze(categoriesOf(cell, separator));
        if (remembered.size < REMEMBERED) remembered.set(cell, found);
      }
      return found;
    },
  };
}

/** The events of some records, with what the catalogue knows of their items. */
function blockOf(
  { length, values, lines, problems }: DelimitedColumns,
  roles: readonly string[],
  catalogue: ReadonlyMap<unknown, Item>,
  before: number,
): RowColumns {
  const columns: Record<string, readonly unknown[]> = Object.fromEntries(roles.map((role, at) => [role, values[at]]));
  if (columns.time === undefined) columns.time = Array.from({ length }, (_, i) => before + i + 1);
  if (catalogue.size > 0) {
    const known = columns.item.map((id) => catalogue.get(id));
    for (const role of ['title', 'categories'] as const) {
      const given = columns[role];
      columns[role] = known.map((item, i) => given?.[i] ?? item?.[role]);
    }
  }
  return new RowColumns({ length, columns, lines, problems });
}

function eventRow(
  value: Record<string, unknown>,
  line: number,
  columns: Readonly<Record<string, string>>,
  unit: SourceTimeUnit,
  separator: string,
): Row {
  const row: Row = { [sourceLine]: line, user: idOf(value[columns.user]), item: idOf(value[columns.item]) };
  for (const [role, column] of Object.entries(columns)) {
    const cell = value[column];
    if (role === 'user' || role === 'item' || cell === undefined || cell === null || cell === '') continue;
    if (role === 'time') row.time = secondsOf(cell, unit);
    else if (role === 'rating') row.rating = numeric(cell);
    else if (role === 'categories') row.categories = categoriesOf(cell, separator);
    else if (role === 'title' || role === 'text') row[role] = textOf(cell) ?? String(cell);
    else row[role] = typeof cell === 'bigint' ? Number(cell) : cell;
  }
  return row;
}

function numeric(cell: unknown): unknown {
  return typeof cell === 'bigint' ? Number(cell) : typeof cell === 'string' ? numberOrRaw(cell) : cell;
}

/** Without files of items, what the events themselves say of them: each item once, with its first title and categories. */
function namedItems(eventBlocks: AsyncIterable<Iterable<Row>>): AsyncIterable<Item> {
  return stream(async function* () {
    const found = new Map<string, Item>();
    for await (const block of eventBlocks) {
      for (const row of block) {
        if (typeof row.item !== 'string') continue;
        let item = found.get(row.item);
        if (!item) {
          item = Object.assign({ id: row.item, title: '', categories: [] }, { [sourceLine]: lineOf(row) });
          found.set(row.item, item);
        }
        if (item.title === '') item.title = textOf(row.title) ?? '';
        if (item.categories.length === 0) item.categories = textsOf(row.categories);
      }
    }
    yield* found.values();
  });
}
