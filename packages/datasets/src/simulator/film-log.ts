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
    const clock = new Clock(new Random(person.seed, 22), person);
    for (let event = offsets[user]; event < offsets[user + 1]; event++) {
      const { film, rating } = life.step();
      log.films[event] = film;
      log.times[event] = clock.next();
      log.ratings[event] = rating;
    }
  });
  return log;
}

/** Evenings of one to four films, days apart, around the hour this person likes. */
class Clock {
  private time = 0;
  private midnight: number;
  private left = 0;

  constructor(
    private readonly random: Random,
    private readonly person: Person,
  ) {
    this.midnight = person.firstTime;
  }

  next(): number {
    const { random, person } = this;
    if (this.left === 0) {
      this.left = 1 + random.below(4);
      const days = 1 + Math.floor(-4 * Math.log(1 - random.uniform()));
      this.midnight += days * 86_400;
      // An evening that began late may have run into the next day.
      this.time = Math.max(this.time + 3600, this.midnight + Math.round(3600 * (person.hour + 0.5 * random.normal())));
    } else {
      this.time += 5400 + random.below(5400);
    }
    this.left--;
    return this.time;
  }
}
