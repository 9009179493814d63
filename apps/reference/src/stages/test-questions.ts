import { favouriteGenre, nextItem, type SplitCase, type Task } from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';

/** What every system is asked: which item comes next and, where items have genres, which genre is the favourite. */
export const tasksOf = ({ split, log, categories }: Corpus): Task[] => [
  nextItem(split),
  ...(categories.some((list) => list.length > 0) ? [favouriteGenre(log)] : []),
];

/** The test items of users who have met some items and not all: of one who knows the whole catalogue two filtered rankings tell nothing. */
export const testsWithItemsLeft = ({ split, log }: Corpus): SplitCase[] =>
  split.test.filter(({ from, to }) => new Set(log.items.subarray(from, to)).size < log.itemIds.length);
