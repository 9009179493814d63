import { readFile } from 'node:fs/promises';
import { writeFileAtomically } from '@user-llm/onnx-autograd';

const secondsBetweenWritings = 30;

/** Ranks that were found so far, in a file under a key that says of what, so that a long measurement goes on where it was stopped. */
export class RankLog {
  private written = performance.now();

  private constructor(
    private readonly file: string,
    private readonly key: string,
    private readonly ranks: Record<string, number | null>,
  ) {}

  static async open(file: string, key: string): Promise<RankLog> {
    try {
      const saved = JSON.parse(await readFile(file, 'utf8')) as { key: string; ranks: Record<string, number | null> };
      return new RankLog(file, key, saved.key === key ? saved.ranks : {});
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return new RankLog(file, key, {});
      throw error;
    }
  }

  /** The rank that the log has under a name, or one that is found and kept. */
  async rank(name: string, find: () => Promise<number | null>): Promise<number | null> {
    if (Object.hasOwn(this.ranks, name)) return this.ranks[name];
    const rank = (this.ranks[name] = await find());
    if (performance.now() - this.written > 1000 * secondsBetweenWritings) await this.write();
    return rank;
  }

  async write(): Promise<void> {
    this.written = performance.now();
    await writeFileAtomically(this.file, [Buffer.from(JSON.stringify({ key: this.key, ranks: this.ranks }))]);
  }
}
