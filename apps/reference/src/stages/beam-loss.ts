import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from '../corpus.js';
import type { LanguageSystem } from '../systems/language-system.js';
import type { Workspace } from '../workspace.js';
import { testsWithItemsLeft } from './test-questions.js';

const usersCompared = 20;
const top = 10;

/**
 * What beam search loses against scoring every title: the share of the exact top 10 that it finds, on seeded users.
 *
 * @returns undefined where every user has met every item
 */
export async function beamLoss(
  workspace: Workspace,
  corpus: Corpus,
  system: LanguageSystem,
): Promise<Record<string, unknown> | undefined> {
  const progress = workspace.output.progress('beam', 'beam search against exact ranking');
  const cases = Random.of(workspace.seed, 'exact').shuffle(testsWithItemsLeft(corpus)).slice(0, usersCompared);
  if (cases.length === 0) {
    progress.done('every user has met every item');
    return undefined;
  }
  let shared = 0;
  const hits = { beam: 0, exact: 0 };
  for (const [done, { user, from, to }] of cases.entries()) {
    workspace.signal.throwIfAborted();
    const history = corpus.log.items.subarray(from, to).filter((item) => item >= 0);
    const request = { exclude: new Set(history), top, signal: workspace.signal };
    const beam = await system.rank(user, history, { ...request, by: 'title' });
    const exact = await system.rank(user, history, { ...request, by: 'exact-title' });
    const found = new Set(beam.items);
    shared += exact.items.filter((item) => found.has(item)).length / exact.items.length;
    const target = corpus.log.items[to];
    if (found.has(target)) hits.beam++;
    if (exact.items.includes(target)) hits.exact++;
    progress.update({ fraction: (done + 1) / cases.length });
  }
  const users = cases.length;
  progress.done(`${((100 * shared) / users).toFixed(1)} % of the exact top ${top} found`);
  return {
    system: system.spec.name,
    users,
    topShared: shared / users,
    'recall@10': { beam: hits.beam / users, exact: hits.exact / users },
  };
}
