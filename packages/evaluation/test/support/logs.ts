import { interactionsFromRows, random } from '../../src/index.js';
import type { InteractionLog } from '../../src/index.js';

const GENRES = ['Comedy', 'Drama', 'Horror'];

/** A seeded log: each user prefers one genre; item i has genre i % 3, item 0 two of them. */
export function smallLog({ users = 30, items = 20, events = 12, seed = 1 } = {}): InteractionLog {
  const source = random(seed);
  const rows = [];
  for (let user = 0; user < users; user++) {
    for (let time = 0; time < events - (user % 3); time++) {
      const item = source.uniform() < 0.7 ? source.below(Math.floor(items / 3)) * 3 + (user % 3) : source.below(items);
      rows.push({ user: `u${user}`, item: `i${item}`, time });
    }
  }
  const catalogue = Array.from({ length: items }, (_, i) => ({
    id: `i${i}`,
    title: `Film ${i}`,
    categories: i === 0 ? ['Comedy', 'Drama'] : [GENRES[i % 3]],
  }));
  return interactionsFromRows(rows, { items: catalogue });
}
