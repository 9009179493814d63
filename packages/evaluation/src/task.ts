import { createHash } from 'node:crypto';
import { InvalidLogError, InvalidOptionError } from './errors.js';
import { checkLog, UNKNOWN_ITEM } from './interaction-log.js';
import type { InteractionLog } from './interaction-log.js';
import { leaveOneOut, missedByAll } from './split.js';
import type { Split, SplitCase, SplitDescription } from './split.js';
import type { TrainingData } from './system.js';

interface TaskBase {
  readonly log: InteractionLog;
  readonly cases: readonly SplitCase[];
  readonly train: TrainingData;
  readonly description: SplitDescription;
  /** names the question exactly: two outcomes can be compared when their task's hash is the same */
  readonly hash: string;
}

/** Rank the whole catalogue: which item comes next? */
export interface NextItemTask extends TaskBase {
  readonly name: 'next-item';
}

/** Name the genre that is most frequent in the user's whole log. */
export interface FavouriteGenreTask extends TaskBase {
  readonly name: 'favourite-genre';
  /** genres, in the order that breaks ties */
  readonly labels: readonly string[];
  /** label index of each case */
  readonly truth: Int32Array;
}

/** A question that {@link evaluate} puts to systems. */
export type Task = NextItemTask | FavouriteGenreTask;

/**
 * Which item comes next, asked of every test user; `on: 'validation'` asks for the item before, to choose settings by.
 *
 * @throws InvalidOptionError where the split has no such users
 */
export function nextItem(split: Split, options: { readonly on?: 'test' | 'validation' } = {}): NextItemTask {
  const { on = 'test' } = options;
  if (split[on].length === 0) throw new InvalidOptionError('on', `the split has no ${on} users.`);
  return {
    name: 'next-item',
    log: split.log,
    cases: split[on],
    train: { log: split.log, end: split.trainEnd },
    description: on === 'test' ? split.description : ofValidation(split),
    hash: `next-item/${on}/${split.hash}`,
  };
}

/** A report on validation items is not to be taken for one on test items. */
function ofValidation({ log, description, validation }: Split): SplitDescription {
  return {
    ...description,
    split: `${description.split}; asked for: the validation items`,
    testUsers: validation.length,
    leftOut: { users: log.users.length - validation.length, reason: 'no validation item' },
    ...missedByAll(log, validation),
  };
}

/**
 * The most frequent genre of a user's whole log, ties by the genre list's order; the input is all but the last event. An item of
 * several genres counts for each of them. The users are those of {@link leaveOneOut}, without those whose log has no genre.
 *
 * @param options.genres the genre list; default: all genres of the items in alphabetical (code point) order
 * @throws InvalidLogError as {@link leaveOneOut} does, and where no item, or no item of a user who can be tested, has a category;
 *   InvalidOptionError for a genre list that lacks one of the items' genres, or has one twice
 */
export function favouriteGenre(log: InteractionLog, options: { readonly genres?: readonly string[] } = {}): FavouriteGenreTask {
  checkLog(log);
  const categories = log.categories;
  if (!categories?.some((list) => list.length > 0)) {
    throw new InvalidLogError(
      'The items have no categories. Give interactions(events, { items }) the catalogue with its categories.',
      'categories',
    );
  }
  const labels =
    options.genres ?? [...new Set(categories.flat())].sort((left, right) => (left < right ? -1 : left > right ? 1 : 0));
  const index = new Map(labels.map((label, i) => [label, i]));
  const twice = labels.find((label, i) => index.get(label) !== i);
  if (twice !== undefined) throw new InvalidOptionError('genres', `the list has "${twice}" twice.`);
  const split = leaveOneOut(log);
  const cases: SplitCase[] = [];
  const truth: number[] = [];
  for (const one of split.test) {
    const counts = new Int32Array(labels.length);
    for (let i = one.from; i <= one.to; i++) {
      if (log.items[i] === UNKNOWN_ITEM) continue;
      for (const genre of categories[log.items[i]]) {
        const label = index.get(genre);
        if (label === undefined)
          throw new InvalidOptionError('genres', `the list lacks "${genre}", a genre of item "${log.itemIds[log.items[i]]}".`);
        counts[label]++;
      }
    }
    const most = counts.reduce((left, right) => Math.max(left, right), 0);
    if (most === 0) continue;
    cases.push(one);
    truth.push(counts.indexOf(most));
  }
  const left = split.test.length - cases.length;
  const { leftOut } = split.description;
  const description = {
    ...split.description,
    split: 'favourite genre of the whole log, from all but the last event',
    ties: 'genres that are equally frequent: the one that stands first in the genre list',
    testUsers: cases.length,
    // What the last event is makes no answer a miss.
    unknownTargets: 0,
    repeatedTargets: 0,
    leftOut: left === 0 ? leftOut : { users: leftOut.users + left, reason: `${leftOut.reason}, or no item with a genre` },
  };
  if (cases.length === 0) throw new InvalidLogError('No user has an item with a genre.', 'categories');
  return {
    name: 'favourite-genre',
    log,
    cases,
    train: { log, end: split.trainEnd },
    description,
    hash: `favourite-genre/${JSON.stringify(labels)}/${hashOf(categories)}/${split.hash}`,
    labels,
    truth: Int32Array.from(truth),
  };
}

/** Which items have which genres, since the answer is made of that. */
const hashOf = (categories: readonly (readonly string[])[]): string =>
  createHash('sha256').update(JSON.stringify(categories)).digest('hex');
