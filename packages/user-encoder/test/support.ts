import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  categories,
  EventTokenizer,
  eventSchema,
  item,
  number,
  text,
  time,
  type EventColumns,
  type Row,
} from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '../src/index.js';

/** A little cinema: eight films of four genres; users walk through a film cycle, some faster than others. */
export const schema = eventSchema({
  user: 'user',
  time: time('at'),
  fields: {
    film: item('film'),
    genres: categories('genres'),
    rating: number('rating', { buckets: 3 }),
    review: text('review', { width: 6 }),
  },
});

const genresOf = (film: number): string[] =>
  film % 4 === 0 ? ['drama', 'war'] : [['comedy'], ['horror'], ['western', 'drama', 'war']][(film % 4) - 1];

/** The next film is the one before plus 3 (of `films`), so that a model can know it, and the ratings follow the film. */
export function cinemaRows({
  users = 12,
  events = 20,
  films = 8,
}: { users?: number; events?: number; films?: number } = {}): Row[] {
  const rows: Row[] = [];
  for (let user = 0; user < users; user++)
    for (let i = 0; i < Math.max(1, events - user); i++) {
      const film = (user + 3 * i) % films;
      rows.push({
        user: `user-${user}`,
        film: `film-${film}`,
        genres: genresOf(film),
        rating: 1 + (film % 5),
        review: film % 2 ? `I liked film ${film}` : '',
        at: 1_700_000_000 + user * 1000 + i * 3600 * (1 + (user % 3)),
      });
    }
  return rows;
}

export async function cinema(
  options: Parameters<typeof cinemaRows>[0] = {},
): Promise<{ tokenizer: EventTokenizer; events: EventColumns }> {
  const rows = cinemaRows(options);
  const tokenizer = await EventTokenizer.fit(schema, () => rows);
  return { tokenizer, events: await tokenizer.encode(rows) };
}

/** Small enough for a test. */
export const small = {
  width: 16,
  layers: 2,
  heads: 2,
  context: 16,
  userTokens: 4,
  resamplerLayers: 2,
  dropout: 0.1,
  seed: 7,
} as const;

export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of source) all.push(one);
  return all;
}

export const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length} differ`);
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= most)) most = difference;
  }
  return most;
};

/** The encoder with every weight moved at random: what begins at zero then counts too. */
export function unsettled(encoder: UserEncoder): UserEncoder {
  const random = Random.of('unsettled');
  return encoder.withWeights(
    new Map(
      [...encoder.weights].map(([name, weight]) => [
        name,
        { ...weight, data: (weight.data as Float32Array).map((x) => x + 0.2 * random.normal()) },
      ]),
    ),
  );
}

const shared = process.env.USER_LLM_SHARED ?? path.join(path.dirname(fileURLToPath(import.meta.url)), '../../../../shared');

/** The ratings of ml-latest-small, or null (with a word on the console) where the reference data is not beside the repository. */
export async function ratings(): Promise<{ tokenizer: EventTokenizer; events: EventColumns } | null> {
  const file = path.join(shared, 'data/ml-latest-small/ratings.csv');
  if (!existsSync(file)) {
    console.warn(`skipped: there is no ${path.basename(file)}; put ml-latest-small into ../shared/data or set USER_LLM_SHARED`);
    return null;
  }
  const rows: Row[] = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => {
      const [user, film, rating, at] = line.split(',');
      return { user, film, rating: Number(rating), at: Number(at) };
    });
  const rated = eventSchema({
    user: 'user',
    time: time('at'),
    fields: { film: item('film'), rating: number('rating', { buckets: 5 }) },
  });
  const tokenizer = await EventTokenizer.fit(rated, () => rows);
  return { tokenizer, events: await tokenizer.encode(rows) };
}
