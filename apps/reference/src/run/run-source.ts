import type { SourceFile } from '@user-llm/datasets';
import { z } from 'zod';
import { UsageError } from '../errors.js';
import type { RunFolder } from './run-folder.js';

/** What a run's data were made of when they were first read: in the record of the stage `fit`. */
const sourceShape = z.array(z.object({ name: z.string(), sha256: z.string().nullable() }));
export type RunSource = z.infer<typeof sourceShape>;

export const sourceOf = (files: readonly SourceFile[]): RunSource => files.map(({ name, sha256 }) => ({ name, sha256 }));

/**
 * Refuses data that have changed since the run was begun, as another path would be refused: what was trained on the former ones and what
 * would be from now on must not meet in one report. Files are told by the hash of their content, which is computed whenever they are
 * opened, since a log that is written anew may keep its size, and one that is only copied has another date.
 *
 * @throws UsageError
 */
export function refuseOtherSource(run: RunFolder, files: readonly SourceFile[]): void {
  const known = sourceShape.safeParse(run.recorded('fit')?.result.source);
  if (!known.success) return;
  const now = sourceOf(files);
  const missing = known.data.filter(({ name }) => !now.some((file) => file.name === name)).map(({ name }) => `${name} is gone`);
  const others = now.flatMap(({ name, sha256 }) => {
    const before = known.data.find((file) => file.name === name);
    if (before === undefined) return [`${name} is new`];
    return before.sha256 === sha256 ? [] : [`${name} has changed`];
  });
  const problems = [...missing, ...others];
  if (problems.length > 0)
    throw new UsageError(
      `${run.folder} holds a run on other data: since it was begun, ${problems.join(', ')}. Put back what was there, or name another folder with --out, or start anew with --fresh`,
    );
}
