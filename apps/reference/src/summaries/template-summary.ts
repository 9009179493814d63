import { takeUsers } from '@user-llm/event-tokenizer';
import type { Corpus } from '../corpus.js';
import type { Summaries } from './summaries.js';

/** How many of each a summary names. */
const named = { categories: 5, repeated: 3, last: 5 } as const;
/** The numbers of so many last events have a mean of their own. */
const lately = 10;

/**
 * A paragraph from what a history's fields give: how many events, favourite categories with their shares, what came up most often, the
 * means of numbers such as ratings, and the last titles. Of the test items nothing is read.
 */
export function templateSummaries(corpus: Corpus): Summaries {
  const { log, titles, categories } = corpus;
  const numbers = numbersOf(corpus);
  return {
    of(user, end) {
      const items = log.items.subarray(log.offsets[user], log.offsets[user] + end).filter((item) => item >= 0);
      const line = (item: number): string => titles[item].replace(/\s+/g, ' ');
      const favourites = mostCommon([...items].flatMap((item) => categories[item]));
      const repeated = mostCommon([...items]).filter(([, count]) => count > 1);
      const last = [...items].slice(-named.last).map(line);
      const shares = favourites
        .slice(0, named.categories)
        .map(([name, count]) => `${name} ${Math.round((100 * count) / items.length)} %`);
      const often = repeated.slice(0, named.repeated).map(([item, count]) => `${line(item)} (${count} times)`);
      return [
        `${end} event${end === 1 ? '' : 's'}.`,
        ...(shares.length > 0 ? [`Likes ${shares.join(', ')}.`] : []),
        ...(often.length > 0 ? [`Most often: ${often.join('; ')}.`] : []),
        ...numbers(user, end),
        ...(last.length > 0 ? [`Last: ${last.join('; ')}.`] : []),
      ].join(' ');
    },
  };
}

/** Values and how often they stand in a list, the most frequent first, equals in the order of their first appearance. */
function mostCommon<T>(values: readonly T[]): [T, number][] {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a);
}

/** Sentences on the means of a user's numbers; a user's rows are decoded once. */
function numbersOf({ tokenizer, known }: Corpus): (user: number, end: number) => string[] {
  const fields = Object.entries(tokenizer.schema.fields).flatMap(([name, spec]) =>
    spec.kind === 'number' ? [{ name, column: spec.column }] : [],
  );
  const users = new Map<number, (number | null)[][]>();
  const columnsOf = (user: number): (number | null)[][] => {
    let columns = users.get(user);
    if (columns === undefined) {
      const rows = [...tokenizer.decode(takeUsers(known, [user]))];
      columns = fields.map(({ column }) => rows.map((row) => row[column] as number | null));
      users.set(user, columns);
    }
    return columns;
  };
  return (user, end) =>
    fields.flatMap(({ name }, i) => {
      const values = columnsOf(user)[i].slice(0, end);
      const whole = meanOf(values);
      const late = meanOf(values.slice(-lately));
      if (whole === undefined || late === undefined) return [];
      return [`Mean ${name} ${whole.toFixed(1)}${end > lately ? `, lately ${late.toFixed(1)}` : ''}.`];
    });
}

function meanOf(values: readonly (number | null)[]): number | undefined {
  const present = values.filter((value) => value !== null);
  return present.length === 0 ? undefined : present.reduce((sum, value) => sum + value, 0) / present.length;
}
