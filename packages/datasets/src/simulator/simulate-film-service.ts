import { createHash } from 'node:crypto';

import type { Dataset, Item, Row } from '../dataset.js';
import { InvalidOptionError } from '../errors.js';
import { flatten, stream } from '../streams.js';
import { suggestSchema } from '../suggested-schema.js';
import { Life } from './behaviour.js';
import { makeLog } from './film-log.js';
import type { FilmLog } from './film-log.js';
import { makePerson } from './population.js';
import { reviewOf } from './reviews.js';
import { makeWorld } from './world.js';
import type { World } from './world.js';

export interface SimulationOptions {
  /** The same seed gives the same rows, on any machine. Default 1. */
  seed?: number;
  /** Default 1,200 (about 120,000 events). */
  users?: number;
  /** Default 1,200; at least 100. */
  items?: number;
}

/** What the simulated users want: known here as it never is of people, so that a test can check what a model learned. */
export interface SimulationTruth {
  /** Names of the hidden themes: the axes of a taste. */
  themes: readonly string[];
  /** Ids of the films, in the order of {@link nextProbabilities}. */
  itemIds: readonly string[];
  /** Theme of each film, as an index into `themes`. */
  itemThemes: Int32Array;
  /** The film's next part in its series, as an index into `itemIds`, or -1. */
  sequels: Int32Array;
  userIds: readonly string[];
  /**
   * The user's weights over the themes, [themes], before their event number `event` (from 0, default: after the last one).
   *
   * @throws InvalidOptionError for an unknown user or an event that they do not have.
   */
  taste(user: string, event?: number): Float64Array;
  /**
   * The probability of each film, [films], to be the user's event number `event` (from 0, default: the one after the last),
   * given everything before it and the user's hidden taste. It is the distribution that the event was drawn from.
   *
   * @throws InvalidOptionError for an unknown user or an event that they do not have.
   */
  nextProbabilities(user: string, event?: number): Float64Array;
}

export interface SimulatedDataset extends Dataset {
  simulated: true;
  items: AsyncIterable<Item>;
  users: AsyncIterable<Row>;
  truth: SimulationTruth;
  /** Number of users, items and events. */
  size: { users: number; items: number; events: number };
}

const batchRows = 1000;

/**
 * Invents a film service: directors whose films are watched in order with others in between, series, themes finer than genres,
 * tastes of two to four themes that drift, skewed popularity, ratings, reviews, noise. Nobody watches a film twice.
 *
 * Takes about a second for the default size. Rows are built while they are read.
 *
 * @throws InvalidOptionError for a size that cannot be simulated.
 */
export function simulateFilmService(options: SimulationOptions = {}): SimulatedDataset {
  const { seed = 1, users = 1200, items = 1200 } = options;
  checkWhole('seed', seed, 0, 2 ** 32 - 1);
  checkWhole('users', users, 1, 1_000_000);
  checkWhole('items', items, 100, 1_000_000);
  const world = makeWorld(seed, items);
  const people = Array.from({ length: users }, (_, user) => makePerson(seed, user, items));
  const log = makeLog(world, people);
  const userIds = people.map((_, user) => `u${user + 1}`);
  const batches = () => eventRows(seed, world, log, userIds);
  const eventBatches = stream(async function* () {
    yield* batches();
  });
  const live = (user: string, event: number | undefined) => {
    const index = /^u[1-9]\d*$/.test(user) ? Number(user.slice(1)) - 1 : -1;
    if (index < 0 || index >= users) throw new InvalidOptionError('user', user, `one of u1 to u${users}`);
    checkWhole('event', event ?? 0, 0, people[index].events);
    const life = new Life(world, people[index]);
    for (let step = 0; step < (event ?? people[index].events); step++) life.step();
    return life;
  };
  return {
    name: `simulated-film-service-${seed}`,
    simulated: true,
    layout: 'simulated',
    time: { unit: 's' },
    events: flatten(eventBatches),
    eventBatches,
    eventBlocks: eventBatches,
    items: stream(async function* () {
      for (let film = 0; film < items; film++) yield itemRow(world, film);
    }),
    users: stream(async function* () {
      for (let user = 0; user < users; user++) yield { user: userIds[user], joined: people[user].firstTime };
    }),
    // Reviews are left out: they tell a model little that it must know, and cost it much time. Add text('text') to read them.
    schema: suggestSchema({ time: 's', categories: true, rating: true, categorical: ['director'] }),
    provenance: {
      source: `simulated: simulateFilmService({ seed: ${seed}, users: ${users}, items: ${items} })`,
      licence: 'invented by this program, free of any rights',
      files: [{ name: 'simulated-events.jsonl', ...digest(batches()) }],
      notes: ['Simulated: no person has watched any of these films.'],
    },
    truth: {
      themes: world.themes,
      itemIds: world.ids,
      itemThemes: world.themeOf,
      sequels: world.sequelOf,
      userIds,
      taste: (user, event) => live(user, event).taste,
      nextProbabilities: (user, event) => live(user, event).probabilities(),
    },
    size: { users, items, events: log.films.length },
  };
}

function* eventRows(seed: number, world: World, log: FilmLog, userIds: readonly string[]): Generator<Row[]> {
  let batch: Row[] = [];
  for (let user = 0; user < userIds.length; user++) {
    for (let event = log.offsets[user]; event < log.offsets[user + 1]; event++) {
      const film = log.films[event];
      const rating = log.ratings[event];
      const director = world.directors[world.directorOf[film]];
      const about = { theme: world.themes[world.themeOf[film]], director, part: world.part[film] };
      const text = reviewOf(seed, event, about, rating);
      const row: Row = {
        user: userIds[user],
        item: world.ids[film],
        time: log.times[event],
        rating,
        title: world.titles[film],
        categories: world.genres[film],
        director,
      };
      if (text !== undefined) row.text = text;
      batch.push(row);
      if (batch.length === batchRows) {
        yield batch;
        batch = [];
      }
    }
  }
  if (batch.length > 0) yield batch;
}

function itemRow(world: World, film: number): Item {
  const item: Item = {
    id: world.ids[film],
    title: world.titles[film],
    categories: world.genres[film],
    year: world.years[film],
    director: world.directors[world.directorOf[film]],
  };
  if (world.series[film] !== null) Object.assign(item, { series: world.series[film], part: world.part[film] });
  return item;
}

/** Of the events as JSON lines. */
function digest(batches: Iterable<Row[]>): { bytes: number; sha256: string } {
  const hash = createHash('sha256');
  let bytes = 0;
  for (const batch of batches) {
    const lines = batch.map((row) => `${JSON.stringify(row)}\n`).join('');
    bytes += Buffer.byteLength(lines);
    hash.update(lines);
  }
  return { bytes, sha256: hash.digest('hex') };
}

function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new InvalidOptionError(name, value, `a whole number from ${least} to ${most}`);
}
