import { UNKNOWN_ITEM } from './interaction-log.js';
import type { SplitCase } from './split.js';
import type { Candidates, History } from './system.js';
import type { Task } from './task.js';

/** Who is asked about, among which items. */
export function whoAsks(task: Task, one: SplitCase): { user: string; userIndex: number; candidates: Candidates } {
  const { log } = task;
  return {
    user: log.users[one.user],
    userIndex: one.user,
    candidates: { ids: log.itemIds, titles: log.titles, categories: log.categories },
  };
}

/** What that user did before. */
export function historyOf(task: Task, { from, to }: SplitCase): History {
  const { items, times } = task.log;
  return { items: items.subarray(from, to), times: times?.subarray(from, to), from, to };
}

/** The items of a history, each once: what a filtered ranking leaves out. */
export function metItems({ items }: History): Set<number> {
  const met = new Set(items);
  met.delete(UNKNOWN_ITEM);
  return met;
}
