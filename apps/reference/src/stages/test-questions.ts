import { favouriteGenre, nextItem, type Task } from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';
import type { RunSettings } from '../run/run-manifest.js';

/** What every system is asked: which item comes next and, where items have genres, which genre is the favourite. */
export const tasksOf = ({ split, log, categories }: Corpus): Task[] => [
  nextItem(split),
  ...(categories.some((list) => list.length > 0) ? [favouriteGenre(log)] : []),
];

/** Test users that the language models rank for: many where one pass of a small model ranks for one, fewer where the whole run is short. */
export function sampleSize({ users, minutes, llm, ranking }: Pick<RunSettings, 'users' | 'minutes' | 'llm' | 'ranking'>): number {
  if (users !== undefined) return users;
  if (minutes < 10) return 80;
  return llm === null && ranking === 'item-tokens' ? 1000 : 200;
}
