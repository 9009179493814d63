import { favouriteGenre, nextItem, type Task } from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';

/** What every system is asked: which item comes next and, where items have genres, which genre is the favourite. */
export const tasksOf = ({ split, log, categories }: Corpus): Task[] => [
  nextItem(split),
  ...(categories.some((list) => list.length > 0) ? [favouriteGenre(log)] : []),
];
