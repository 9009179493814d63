import { mkdir, readFile } from 'node:fs/promises';
import type { Outcome } from '@user-llm/evaluation';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { folderName } from '../system-specs.js';
import type { RunFolder } from './run-folder.js';

/** How a system answered, and how long that took, over all the runs that it took. */
export interface KeptOutcome {
  readonly outcome: Outcome;
  readonly seconds: number;
}

/**
 * How systems answered, or have answered so far, in a file for each system and task, under a key that says what of: an interrupted
 * evaluation goes on behind the last user, and a system that was trained anew is asked anew.
 */
export class OutcomeFolder {
  private constructor(private readonly run: RunFolder) {}

  static async open(run: RunFolder): Promise<OutcomeFolder> {
    await mkdir(run.path('outcomes'), { recursive: true });
    return new OutcomeFolder(run);
  }

  /** The outcome of a system under this key, or undefined. */
  async read(system: string, task: Outcome['task'], key: string): Promise<KeptOutcome | undefined> {
    try {
      const content = await readFile(this.file(system, task), 'utf8');
      const saved = JSON.parse(content) as (Partial<KeptOutcome> & { key?: string }) | null;
      if (saved?.key !== key || saved.outcome === undefined) return undefined;
      // Runs of earlier versions kept no seconds.
      return { outcome: saved.outcome, seconds: saved.seconds ?? 0 };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  async write({ outcome, seconds }: KeptOutcome, key: string): Promise<void> {
    const content = Buffer.from(JSON.stringify({ key, seconds, outcome }));
    await writeFileAtomically(this.file(outcome.system, outcome.task), [content]);
  }

  private file(system: string, task: string): string {
    return this.run.path('outcomes', `${folderName(system)}.${task}.json`);
  }
}
