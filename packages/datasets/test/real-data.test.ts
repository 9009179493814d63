import { expect, test } from '@jest/globals';

import { lineOf, openDataset, problemOf } from '../src/index.js';
import { realData } from './helpers.js';

/** Counts that shared/data/README.md states. */
test.each([
  ['ml-latest-small', 'movielens-latest', 's', 100_836, 610, 9724, 9742],
  ['ml-100k', 'movielens-100k', 's', 100_000, 943, 1682, 1682],
  ['ml-1m', 'movielens-1m', 'order', 999_611, 6040, 3416, 3883],
  ['amazon-musical-instruments', 'amazon-2014', 's', 10_261, 1429, 900, undefined],
  ['google-local-sample', 'google-local', 's', 5000, 4952, undefined, undefined],
])(
  '%s: every row, user and item',
  async (name, layout, unit, rows, users, items, catalogue) => {
    const folder = realData(name);
    if (folder === undefined) return;
    const data = await openDataset(folder);
    expect([data.layout, data.time.unit, data.simulated]).toEqual([layout, unit, false]);
    const seen = { rows: 0, bad: 0, users: new Set(), items: new Set() };
    let last: number | undefined;
    for await (const batch of data.eventBatches) {
      for (const row of batch) {
        seen.rows++;
        if (problemOf(row) !== undefined || typeof row.time !== 'number' || !['number', 'undefined'].includes(typeof row.rating))
          seen.bad++;
        seen.users.add(row.user);
        seen.items.add(row.item);
        last = lineOf(row);
      }
    }
    expect([seen.rows, seen.bad, seen.users.size]).toEqual([rows, 0, users]);
    expect(last).toBe(layout === 'movielens-latest' ? rows + 1 : rows);
    if (items !== undefined) expect(seen.items.size).toBe(items);
    if (catalogue !== undefined) {
      let count = 0;
      for await (const { title } of data.items!) {
        count++;
        if (title.includes('\uFFFD')) throw new Error(`the encoding of "${title}" was not understood`);
      }
      expect(count).toBe(catalogue);
    }
  },
  60_000,
);
