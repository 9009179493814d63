import { Random } from '../random.js';
import type { Person } from './behaviour.js';

const firstDay = Date.UTC(2015, 0, 1) / 1000;
const day = 86_400;

/** Heavy and light users, the patient and a few bingers. Two in nine are heavy: the long tail of a real service. */
export function makePerson(seed: number, user: number, items: number): Person {
  const random = new Random(seed, 31, user);
  const heavy = user % 9 < 2;
  const wanted = heavy
    ? 205 + Math.floor(70 * -Math.log(1 - random.uniform()))
    : Math.floor(46 * Math.exp(0.55 * random.normal()));
  const longest = Math.floor(items / 3);
  return {
    seed: random.uint32(),
    events: Math.min(longest, heavy ? Math.min(420, wanted) : Math.min(190, Math.max(20, wanted))),
    firstTime: firstDay + random.below(3 * 365) * day,
    carryOn: random.between(0.65, 0.8),
    binge: random.chance(0.04) ? random.between(0.5, 1) : random.between(0, 0.03),
    noise: random.between(0.2, 0.4),
    drift: random.between(0.01, 0.03),
    generosity: 0.4 * random.normal(),
    hour: (20 + 3 * random.normal() + 24) % 24,
  };
}
