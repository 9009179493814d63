import { Random } from '../random.js';
import { Life, type Person } from './behaviour.js';
import type { World } from './world.js';

/** All events as columns, by user and in time: user u owns [offsets[u], offsets[u + 1]). */
export interface FilmLog {
  offsets: Int32Array;
  /** Index of the film. */
  films: Int32Array;
  /** Seconds since 1970. */
  times: Float64Array;
  /** 0.5 to 5 in halves. */
  ratings: Float32Array;
}

export function makeLog(world: World, people: readonly Person[]): FilmLog {
  const offsets = new Int32Array(people.length + 1);
  people.forEach((person, user) => (offsets[user + 1] = offsets[user] + person.events));
  const events = offsets[people.length];
  const log: FilmLog = {
    offsets,
    films: new Int32Array(events),
    times: new Float64Array(events),
    ratings: new Float32Array(events),
  };
  people.forEach((person, user) => {
    const life = new Life(world, person);
    const random = new Random(person.seed, 22);
    const clock = new Clock(random, person);
    for (let event = offsets[user]; event < offsets[user + 1]; event++) {
      const film = life.step();
      log.films[event] = film;
      log.times[event] = clock.next();
      log.ratings[event] = rate(world, person, random, film, life.taste);
    }
  });
  return log;
}

/** Evenings of one to four films, days apart, around the hour this person likes. */
class Clock {
  private time: number;
  private left = 0;

  constructor(
    private readonly random: Random,
    private readonly person: Person,
  ) {
    this.time = person.firstTime;
  }

  next(): number {
    const { random, person } = this;
    if (this.left === 0) {
      this.left = 1 + random.below(4);
      const days = 1 + Math.floor(-4 * Math.log(1 - random.uniform()));
      const midnight = Math.floor(this.time / 86_400) * 86_400 + days * 86_400;
      this.time = midnight + Math.round(3600 * (person.hour + 0.5 * random.normal()));
    } else {
      this.time += 5400 + random.below(5400);
    }
    this.left--;
    return this.time;
  }
}

/** Quality of the film, fit with the user's taste, the user's generosity, noise; rounded to halves. */
function rate(world: World, person: Person, random: Random, film: number, taste: Float64Array): number {
  const fit = taste[world.themeOf[film]] > 0 ? 0.35 : -0.45;
  const raw = 3.4 + world.quality[film] + fit + person.generosity + 0.45 * random.normal();
  return Math.min(5, Math.max(0.5, Math.round(raw * 2) / 2));
}
