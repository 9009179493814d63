import { categories, eventSchema, item, number, RowColumns, time } from '@user-llm/event-tokenizer';
import type { Row } from '@user-llm/event-tokenizer';

/** A schema with one field of each kind but text. */
export const logSchema = eventSchema({
  user: 'user',
  time: time('time'),
  fields: { item: item('item'), categories: categories('categories'), rating: number('rating', { buckets: 10 }) },
});

export interface LogShape {
  readonly events: number;
  readonly users: number;
  readonly items: number;
  /** `time`: users come interleaved, as they do in a log that is written as things happen. `user`: one after the other. */
  readonly order: 'time' | 'user';
}

const genres = ['Action', 'Comedy', 'Crime', 'Drama', 'Fantasy', 'Horror', 'Musical', 'Romance', 'Sci-Fi', 'War'];
const rowsPerBlock = 8192;

/** Uniform numbers in [0, 1); the same for the same seed. */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Invented events, a block at a time: some users and items come far more often than others, users and items are texts made anew for
 * every event, as a parser makes them. Nothing measured on it says anything about people.
 */
export function* simulatedLog({ events, users, items, order }: LogShape, seed = 1): Generator<RowColumns> {
  const random = uniform(seed);
  const bags = Array.from({ length: items }, () =>
    Array.from({ length: 1 + Math.floor(random() * 3) }, () => genres[Math.floor(random() * genres.length)]).join('|'),
  );
  for (let done = 0; done < events; done += rowsPerBlock) {
    const length = Math.min(rowsPerBlock, events - done);
    const columns = {
      user: [] as string[],
      item: [] as string[],
      categories: [] as string[],
      rating: [] as number[],
      time: [] as number[],
    };
    for (let i = 0; i < length; i++) {
      const event = done + i;
      // Every user has an event; the square makes early ones busier.
      const user =
        order === 'user' ? Math.floor((event * users) / events) : event < users ? event : Math.floor(users * random() ** 2);
      const place = Math.floor(items * random() ** 3);
      columns.user.push(`user-${user}`);
      columns.item.push(`item-${place}`);
      columns.categories.push(bags[place]);
      columns.rating.push(1 + Math.floor(random() * 5));
      columns.time.push(1_500_000_000 + 2 * event + Math.floor(random() * 600));
    }
    yield new RowColumns({ length, columns });
  }
}

/** The same as one object per row. */
export function simulatedRows(shape: LogShape): Row[] {
  const rows: Row[] = [];
  for (const block of simulatedLog(shape)) for (const row of block) rows.push(row);
  return rows;
}
