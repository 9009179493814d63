import { hashedNgrams } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import type { NewItemCase, NewItems } from './new-items.js';

/** Scores of all items for a user, without any training. */
export type ItemBaseline = (asked: NewItemCase) => Float64Array;

/** What can be said of an item that nobody has met: nothing; that its categories, or the n-grams of its title, are those of what the user met. */
export async function itemBaselines({ items, fields }: NewItems, seed: number): Promise<Record<string, ItemBaseline>> {
  const found: Record<string, ItemBaseline> = {
    random: ({ user }) => {
      const random = Random.of(seed, 'random ranking', user);
      return Float64Array.from(items, () => random.next());
    },
  };
  if (fields.includes('categories')) {
    const names = [...new Set(items.flatMap(({ categories }) => listed(categories)))];
    const place = new Map(names.map((name, i) => [name, i]));
    found['category match'] = cosines(
      items.map(({ categories }) => {
        const vector = new Float64Array(names.length);
        for (const name of listed(categories)) vector[place.get(name)!] = 1;
        return vector;
      }),
    );
  }
  if (fields.includes('title'))
    found['title match'] = cosines(
      (await hashedNgrams().embed(items.map(({ title }) => String(title ?? '')))).map((vector) => Float64Array.from(vector)),
    );
  return found;
}

const listed = (categories: unknown): string[] => (Array.isArray(categories) ? (categories as string[]) : []);

/** The cosine of every item's vector with the sum of those that the user met. */
function cosines(vectors: readonly Float64Array[]): ItemBaseline {
  const lengths = vectors.map((vector) => Math.hypot(...vector) || 1);
  return ({ met }) => {
    const profile = new Float64Array(vectors[0].length);
    for (const item of met) vectors[item].forEach((value, i) => (profile[i] += value));
    return Float64Array.from(
      vectors,
      (vector, item) => vector.reduce((sum, value, i) => sum + value * profile[i], 0) / lengths[item],
    );
  };
}
