import path from 'node:path';

import { resolveItemColumns } from './columns.js';
import type { ItemColumnMapping } from './columns.js';
import { malformed, sourceLine } from './dataset.js';
import type { Item } from './dataset.js';
import { stream } from './streams.js';
import { openTable } from './tables.js';
import type { Table } from './tables.js';
import { categoriesOf, idOf, textOf } from './values.js';

export interface ItemOptions {
  itemColumns?: ItemColumnMapping;
  /** Between the categories of one item in one text. Default `|`. */
  categorySeparator?: string;
  /** Of delimited text; found out from the first line by default. */
  delimiter?: string;
}

/** Files of items with any columns. */
export interface ItemTables {
  items: AsyncIterable<Item>;
  /** Whether one of them has a column of categories. */
  categories: boolean;
  /** The options that they are read by. */
  honours: readonly (keyof ItemOptions)[];
}

/** @throws MissingColumnError where one has no column of ids, and what opening a table does; undefined where there is no file. */
export async function openItemTables(files: readonly string[], options: ItemOptions): Promise<ItemTables | undefined> {
  if (files.length === 0) return undefined;
  const tables: (Table & { roles: Record<string, string> })[] = [];
  for (const file of files) {
    const table = await openTable(file, options.delimiter);
    tables.push({ ...table, roles: resolveItemColumns(path.basename(file), table.columns, options.itemColumns) });
  }
  const separator = options.categorySeparator ?? '|';
  const categories = tables.some(({ roles }) => roles.categories !== undefined);
  return {
    categories,
    honours: [
      'itemColumns',
      ...(categories ? (['categorySeparator'] as const) : []),
      ...(tables.some(({ format }) => format === 'csv') ? (['delimiter'] as const) : []),
    ],
    items: stream(async function* () {
      for (const { read, columns, roles } of tables) {
        for await (const records of read(columns)) {
          for (const { value, line, problem } of records) {
            const { [roles.id]: id, [roles.title]: title, [roles.categories]: bag, ...more } = value;
            const item: Item = {
              ...more,
              id: idOf(id) ?? '',
              title: textOf(title) ?? '',
              categories: categoriesOf(bag ?? [], separator),
            };
            Object.assign(item, { [sourceLine]: line, ...(problem !== undefined && { [malformed]: problem }) });
            yield item;
          }
        }
      }
    }),
  };
}
