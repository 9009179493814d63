import type { Candidate } from '@user-llm/cross-attention';
import type { Corpus } from './corpus.js';

/** Which genre a user likes best: the most frequent one of what they chose, as the evaluation asks for it. */
export class FavouriteGenres {
  /** In the order that breaks ties: by their code points, as `favouriteGenre` of the evaluation has them. */
  readonly genres: readonly string[];
  private readonly places: ReadonlyMap<string, number>;

  constructor(private readonly corpus: Pick<Corpus, 'log' | 'categories'>) {
    this.genres = [...new Set(corpus.categories.flat())].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    this.places = new Map(this.genres.map((genre, place) => [genre, place]));
  }

  /** The genres as labels that a model names by one token each. */
  get labels(): Candidate[] {
    return this.genres.map((genre) => ({ id: genre, text: genre }));
  }

  /** The favourite among a user's first `end` events, by its place in `genres`; undefined where none has a genre. */
  of(user: number, end: number): number | undefined {
    const counts = this.counts(user, end);
    const most = counts.reduce((a, b) => Math.max(a, b), 0);
    return most === 0 ? undefined : counts.indexOf(most);
  }

  /** Each genre's share in the genres of a user's first `end` events, `[genres]`; undefined where none has a genre. */
  shares(user: number, end: number): Float32Array | undefined {
    const counts = this.counts(user, end);
    const total = counts.reduce((a, b) => a + b, 0);
    return total === 0 ? undefined : Float32Array.from(counts, (count) => count / total);
  }

  private counts(user: number, end: number): Int32Array {
    const { log, categories } = this.corpus;
    const counts = new Int32Array(this.genres.length);
    for (let i = log.offsets[user]; i < log.offsets[user] + end; i++)
      if (log.items[i] >= 0) for (const genre of categories[log.items[i]]) counts[this.places.get(genre)!]++;
    return counts;
  }
}
