import { Random } from '../random.js';
import type { World } from './world.js';

/** What one simulated user is like; none of it is in the events. */
export interface Person {
  seed: number;
  events: number;
  firstTime: number;
  /** Probability that the next film carries on with a director being followed, when there is one. */
  carryOn: number;
  /** How strong the wish is to see another film of the very last director at once: 1 for those who binge, near 0 for most. */
  binge: number;
  /** Probability of picking whatever is popular. */
  noise: number;
  /** Probability, after each film, that an interest gives way to a neighbouring one. */
  drift: number;
  generosity: number;
  /** Preferred hour of the day, 0 to 24. */
  hour: number;
}

/** The knobs of the law of the next film, one set for everybody. */
export const law = {
  /** A director is followed while seen among this many last films. */
  window: 30,
  /** At most this many directors are followed at a time. */
  threads: 8,
  /** Viewers like a change: the wish to return to a director is back in full only after this many other films. */
  rest: 6,
  /** A director is dropped after a film rated below this. */
  liked: 2.5,
  /** Within a director: the next part of the series with this probability, */
  sequel: 0.95,
  /** else the best known film not yet seen with this one, else any. */
  bestKnown: 0.85,
};

/**
 * One user's life, a film at a time. `probabilities()` is the exact distribution from which `step()` draws: the truth of
 * the simulation is read off the simulator itself and cannot disagree with the events.
 */
export class Life {
  /** Weight of each theme in the user's taste right now; sums to 1. */
  readonly taste: Float64Array;
  private readonly random: Random;
  private readonly watched: Uint8Array;
  private readonly history: number[] = [];
  private readonly liked: boolean[] = [];
  private readonly next: Float64Array;

  constructor(
    private readonly world: World,
    private readonly person: Person,
  ) {
    this.random = new Random(person.seed, 21);
    this.watched = new Uint8Array(world.ids.length);
    this.next = new Float64Array(world.ids.length);
    this.taste = new Float64Array(world.themes.length);
    const interests = 2 + this.random.below(3);
    for (let i = 0; i < interests; i++) this.taste[this.random.below(world.themes.length)] += 0.3 + this.random.uniform();
    normalise(this.taste);
  }

  /** Probability of each film to be the next one, [films]; the array is reused by the next call. */
  probabilities(): Float64Array {
    const { world, person, next, watched, taste } = this;
    const threads = this.threads();
    const pull = threads.reduce((sum, { weight }) => sum + weight, 0);
    const carryOn = person.carryOn * Math.min(1, pull);
    let freshTotal = 0;
    let popularTotal = 0;
    for (let film = 0; film < next.length; film++) {
      if (watched[film]) continue;
      popularTotal += world.popularity[film];
      freshTotal += taste[world.themeOf[film]] * world.entry[film];
    }
    // With every film of the user's themes seen, only what is popular is left.
    const noise = freshTotal > 0 ? (1 - carryOn) * person.noise : 1 - carryOn;
    const fresh = freshTotal > 0 ? (1 - carryOn - noise) / freshTotal : 0;
    const popular = noise / popularTotal;
    for (let film = 0; film < next.length; film++) {
      next[film] = watched[film] ? 0 : popular * world.popularity[film] + fresh * taste[world.themeOf[film]] * world.entry[film];
    }
    for (const thread of threads) this.addThread(thread.director, thread.last, (carryOn * thread.weight) / pull);
    return next;
  }

  /** Draws the next film and its rating (0.5 to 5 in halves), and lets the taste drift. */
  step(): { film: number; rating: number } {
    const film = this.random.weighted(this.probabilities(), 1);
    const rating = this.rate(film);
    this.watched[film] = 1;
    this.history.push(film);
    this.liked.push(rating >= law.liked);
    if (this.random.chance(this.person.drift)) this.moveInterest();
    return { film, rating };
  }

  /** Quality of the film, fit with the user's taste, the user's generosity, noise. */
  private rate(film: number): number {
    const { world, person, random, taste } = this;
    const fit = taste[world.themeOf[film]] > 0 ? 0.25 : -0.45;
    const raw = 3.2 + world.quality[film] + fit + person.generosity + 0.6 * random.normal();
    return Math.min(5, Math.max(0.5, Math.round(raw * 2) / 2));
  }

  /** The directors being followed, the last film seen of each, and how strong the wish to go on is: 1 is full strength. */
  private threads(): { director: number; last: number; weight: number }[] {
    const { world, history } = this;
    const found: { director: number; last: number; weight: number }[] = [];
    const met = new Set<number>();
    for (let back = 1; back <= Math.min(law.window, history.length) && found.length < law.threads; back++) {
      const at = history.length - back;
      const film = history[at];
      const director = world.directorOf[film];
      if (met.has(director)) continue;
      met.add(director);
      if (!this.liked[at] || this.following(film) < 0) continue;
      found.push({ director, last: film, weight: back === 1 ? this.person.binge : Math.min(1, back / law.rest) ** 2 });
    }
    return found;
  }

  /** What follows this film for one who liked it: the next part of its series, else the director's best known film not yet seen, or -1. */
  private following(film: number): number {
    const { world, watched } = this;
    const sequel = world.sequelOf[film];
    if (sequel >= 0 && !watched[sequel]) return sequel;
    const director = world.directorOf[film];
    let best = -1;
    for (let other = world.directorStart[director]; other < world.directorStart[director + 1]; other++) {
      if (!watched[other] && (best < 0 || world.popularity[other] > world.popularity[best])) best = other;
    }
    return best;
  }

  private addThread(director: number, last: number, mass: number): void {
    const { world, watched, next } = this;
    const from = world.directorStart[director];
    const to = world.directorStart[director + 1];
    const following = this.following(last);
    const share = mass * (world.sequelOf[last] === following ? law.sequel : law.bestKnown);
    const rest = mass - share;
    next[following] += share;
    let total = 0;
    for (let film = from; film < to; film++) if (!watched[film]) total += world.popularity[film];
    for (let film = from; film < to; film++) if (!watched[film]) next[film] += (rest * world.popularity[film]) / total;
  }

  private moveInterest(): void {
    const { random, taste, world } = this;
    const from = random.weighted(taste, 1);
    const to = random.chance(0.7) ? random.pick(Array.from(world.neighbours[from])) : random.below(taste.length);
    const moved = taste[from];
    taste[from] = 0;
    taste[to] += moved;
    for (let t = 0; t < taste.length; t++) if (taste[t] > 0) taste[t] *= Math.exp(0.3 * random.normal());
    normalise(taste);
  }
}

function normalise(weights: Float64Array): void {
  let total = 0;
  for (const weight of weights) total += weight;
  for (let i = 0; i < weights.length; i++) weights[i] /= total;
}
