import { mkdir, readFile } from 'node:fs/promises';
import type { Outcome } from '@user-llm/evaluation';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { folderName } from '../system-specs.js';
import type { RunFolder } from './run-folder.js';

/**
 * How systems answered, in a file for each system and task, under a key that says what of: an interrupted evaluation goes on behind
 * the last one, and a system that was trained anew is asked anew.
 */
export class OutcomeFolder {
  private constructor(private readonly run: RunFolder) {}

  static async open(run: RunFolder): Promise<OutcomeFolder> {
    await mkdir(run.path('outcomes'), { recursive: true });
    return new OutcomeFolder(run);
  }

  /** The outcome of a system under this key, or undefined. */
  async read(system: string, task: Outcome['task'], key: string): Promise<Outcome | undefined> {
    const saved = await this.saved(system, task);
    return saved?.key === key ? saved.outcome : undefined;
  }

  /** How a system answered last, or undefined. */
  async latest(system: string, task: Outcome['task']): Promise<Outcome | undefined> {
    return (await this.saved(system, task))?.outcome;
  }

  private async saved(system: string, task: Outcome['task']): Promise<{ key: string; outcome: Outcome } | undefined> {
    try {
      return JSON.parse(await readFile(this.file(system, task), 'utf8')) as { key: string; outcome: Outcome };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  async write(outcome: Outcome, key: string): Promise<void> {
    const content = Buffer.from(JSON.stringify({ key, outcome }));
    await writeFileAtomically(this.file(outcome.system, outcome.task), [content]);
  }

  private file(system: string, task: string): string {
    return this.run.path('outcomes', `${folderName(system)}.${task}.json`);
  }
}
