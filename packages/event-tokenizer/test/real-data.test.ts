import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';

import { EventTokenizer, eventSchema, item, number, time } from '../src/index.js';

const shared = process.env.USER_LLM_SHARED ?? path.join(import.meta.dirname, '../../../../shared');
const file = path.join(shared, 'data/ml-latest-small/ratings.csv');
const there = existsSync(file);
if (!there) console.warn('Skipped: shared/data/ml-latest-small is not beside the repository (or set USER_LLM_SHARED).');

(there ? describe : describe.skip)('MovieLens latest-small', () => {
  function* ratings() {
    const [header, ...lines] = readFileSync(file, 'utf8').trimEnd().split(/\r?\n/);
    const names = header.split(',');
    for (const line of lines) {
      const values = line.split(',');
      yield Object.fromEntries(names.map((name, i) => [name, values[i]]));
    }
  }
  const schema = eventSchema({
    user: 'userId',
    time: time('timestamp'),
    fields: { movie: item('movieId'), rating: number('rating') },
  });

  test('has the published counts, half stars as exact buckets, and histories in order', async () => {
    const tokenizer = await EventTokenizer.fit(schema, ratings, { minCount: 2 });
    const events = await tokenizer.encode(ratings, { policies: { duplicate: 'reject', malformed: 'throw' } });
    expect(events.counts).toMatchObject({ rows: 100_836, events: 100_836, rejected: 0 });
    expect(events.users).toHaveLength(610);

    const counts = new Map<string, number>();
    for (const { movieId } of ratings()) counts.set(movieId, (counts.get(movieId) ?? 0) + 1);
    const often = [...counts].filter(([, count]) => count >= 2);
    expect(counts.size).toBe(9724);
    expect(tokenizer.fields.movie).toMatchObject({ size: 4 + often.length });
    expect(events.counts.unknownItems).toBe(counts.size - often.length);
    // Forrest Gump, 329 ratings, is the most frequent.
    expect(tokenizer.vocabulary('movie')[4]).toBe('356');

    expect(tokenizer.fields.rating).toMatchObject({ size: 14, rankError: 0, bounds: [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5] });
    for (let u = 0; u < events.users.length; u++)
      for (let e = events.offsets[u] + 1; e < events.offsets[u + 1]; e++)
        expect(events.times[e] >= events.times[e - 1]).toBe(true);

    // The first user's rows, sorted by a plain stable sort.
    const own = [...ratings()]
      .filter(({ userId }) => userId === events.users[0])
      .sort((a, b) => Number(a.timestamp) - Number(b.timestamp));
    const decoded = [...tokenizer.decode(events)].slice(0, own.length);
    expect(decoded.map(({ movieId, rating }) => [movieId, rating])).toEqual(
      own.map(({ movieId, rating }) => [(counts.get(movieId) ?? 0) >= 2 ? movieId : '[unknown]', Number(rating)]),
    );
  });
});
