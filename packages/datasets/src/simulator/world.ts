import { Random } from '../random.js';
import { adjectives, firstNames, lastNames, places, themes } from './words.js';

/** The catalogue as arrays, one entry per film; films of one director stand together, in the order of their years. */
export interface World {
  ids: string[];
  titles: string[];
  years: Int32Array;
  /** Genres of each film, those of its theme first. */
  genres: string[][];
  directors: string[];
  /** Index of the director of each film. */
  directorOf: Int32Array;
  /** First film of each director, and one entry more: films of director d are [directorStart[d], directorStart[d + 1]). */
  directorStart: Int32Array;
  themeOf: Int32Array;
  /** The next part of a film's series, or -1. */
  sequelOf: Int32Array;
  /** Part number in its series, 0 for a film that stands alone. */
  part: Int32Array;
  series: (string | null)[];
  /** How often a film is picked by somebody who knows nothing else; sums to 1. */
  popularity: Float64Array;
  /** How often a film is the first that somebody sees of its director, against the director's others. */
  entry: Float64Array;
  /** -1.5 to 1.5, added to every rating. */
  quality: Float64Array;
  themes: string[];
  /** Themes to which an interest tends to move on. */
  neighbours: Int32Array[];
}

const firstYear = 1962;
const lastYear = 2014;

export function makeWorld(seed: number, items: number): World {
  const random = new Random(seed, 11);
  const world: World = {
    ids: [],
    titles: [],
    years: new Int32Array(items),
    genres: [],
    directors: [],
    directorOf: new Int32Array(items),
    directorStart: new Int32Array(0),
    themeOf: new Int32Array(items),
    sequelOf: new Int32Array(items).fill(-1),
    part: new Int32Array(items),
    series: [],
    popularity: new Float64Array(items),
    entry: new Float64Array(items),
    quality: new Float64Array(items),
    themes: themes.map(({ name }) => name),
    neighbours: themes.map((_, t) => Int32Array.from([(t + 1) % themes.length, (t + themes.length - 1) % themes.length])),
  };
  const starts: number[] = [];
  const used = new Set<string>();
  let film = 0;
  for (let director = 0; film < items; director++) {
    starts.push(film);
    world.directors.push(directorName(random, director));
    film = addDirector(world, random, used, director, film, Math.min(items, film + 20 + random.below(13)));
  }
  world.directorStart = Int32Array.from([...starts, items]);
  const total = world.popularity.reduce((sum, value) => sum + value, 0);
  for (let i = 0; i < items; i++) world.popularity[i] /= total;
  assignIds(world, new Random(seed, 12));
  return world;
}

/** Ids say nothing about theme or director: they are a random permutation of 1..items. */
function assignIds(world: World, random: Random): void {
  world.ids = random.shuffle(Array.from(world.titles, (_, i) => String(i + 1)));
}

function directorName(random: Random, director: number): string {
  // Steps through all pairs of names before one comes back.
  const first = firstNames[(director * 7 + random.below(2)) % firstNames.length];
  return `${first} ${lastNames[director % lastNames.length]}`;
}

function addDirector(world: World, random: Random, used: Set<string>, director: number, from: number, to: number): number {
  const themeIndex = director % themes.length;
  const theme = themes[themeIndex];
  const directorWeight = Math.exp(0.7 * random.normal());
  let year = firstYear + random.below(lastYear - firstYear - 25);
  let film = from;
  while (film < to) {
    const parts = random.chance(0.45) ? Math.min(to - film, 2 + random.below(3)) : 1;
    const stem = makeStem(random, theme.nouns, used, parts > 1);
    const seriesQuality = 0.6 * random.normal();
    for (let part = 1; part <= parts; part++, film++) {
      year = Math.min(lastYear, year + 1 + random.below(3));
      world.titles.push(`${part === 1 ? stem : `${stem} ${part}`} (${year})`);
      world.years[film] = year;
      world.genres.push(pickGenres(random, theme.genres));
      world.directorOf[film] = director;
      world.themeOf[film] = themeIndex;
      world.series.push(parts > 1 ? stem : null);
      world.part[film] = parts > 1 ? part : 0;
      if (part < parts) world.sequelOf[film] = film + 1;
      world.popularity[film] = directorWeight * Math.exp(0.9 * random.normal()) * (part > 1 ? 0.6 : 1);
      world.entry[film] = world.popularity[film] * (part > 1 ? 0.15 : 1);
      world.quality[film] = clamp(seriesQuality + 0.5 * random.normal() - 0.15 * (part - 1), -1.5, 1.5);
    }
  }
  return film;
}

function makeStem(random: Random, nouns: readonly string[], used: Set<string>, mustBeNew: boolean): string {
  // One title in fifty may be a remake under an old name, as in any real catalogue.
  const remake = !mustBeNew && random.chance(0.02);
  let stem = drawStem(random, nouns);
  // A very large catalogue runs out of names: after a while a second film of the same name is let through.
  for (let tries = 0; used.has(stem) && !remake && tries < 200; tries++) stem = drawStem(random, nouns);
  used.add(stem);
  return stem;
}

function drawStem(random: Random, nouns: readonly string[]): string {
  const noun = random.pick(nouns);
  const shape = random.uniform();
  if (shape < 0.4) return `The ${random.pick(adjectives)} ${noun}`;
  if (shape < 0.65) return `${random.pick(adjectives)} ${noun}`;
  if (shape < 0.85) return `The ${noun} of ${random.pick(places)}`;
  return `${random.pick(firstNames)} and the ${noun}`;
}

function pickGenres(random: Random, own: readonly string[]): string[] {
  const picked = [own[0], ...own.slice(1).filter(() => random.chance(0.7))];
  const other = random.pick(themes).genres[0];
  if (random.chance(0.15) && !picked.includes(other)) picked.push(other);
  return picked;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
