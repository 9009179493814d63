import { favouriteGenre, nextItem, type Task } from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';
import type { RunSettings } from '../run/run-manifest.js';

/** What every system is asked: which item comes next and, where items have genres, which genre is the favourite. */
export const tasksOf = ({ split, log, categories }: Corpus): Task[] => [
  nextItem(split),
  ...(categories.some((list) => list.length > 0) ? [favouriteGenre(log)] : []),
];

/** Test users that the language models rank for: fewer where the whole run is short. */
export const sampleSize = ({ users, minutes }: RunSettings): number => users ?? (minutes < 10 ? 80 : 200);
