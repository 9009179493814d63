import { appendFile, readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Moment, Summaries } from './summaries.js';

const lineShape = z.object({ user: z.int().nonnegative(), end: z.int().nonnegative(), text: z.string() });

const keyOf = ({ user, end }: Moment): string => `${user} ${end}`;

/**
 * Summaries that a language model wrote, in a file of one JSON line each, so that an interrupted writer goes on where it stopped. A line
 * that was cut off is not there.
 */
export class WrittenSummaries implements Summaries {
  private readonly texts = new Map<string, string>();

  private constructor(
    private readonly file: string,
    readonly moments: readonly Moment[],
  ) {}

  /** @param moments which of the written ones are offered to be trained on */
  static async open(file: string, moments: readonly Moment[] = []): Promise<WrittenSummaries> {
    const summaries = new WrittenSummaries(file, moments);
    const content = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    for (const line of content.split('\n')) {
      const parsed = lineShape.safeParse(parseJson(line));
      if (parsed.success) summaries.texts.set(keyOf(parsed.data), parsed.data.text);
    }
    // What comes next begins on a line of its own.
    if (content !== '' && !content.endsWith('\n')) await appendFile(file, '\n');
    return summaries;
  }

  has(moment: Moment): boolean {
    return this.texts.has(keyOf(moment));
  }

  async add({ user, end }: Moment, text: string): Promise<void> {
    await appendFile(this.file, `${JSON.stringify({ user, end, text })}\n`);
    this.texts.set(keyOf({ user, end }), text);
  }

  of(user: number, end: number): string {
    const text = this.texts.get(keyOf({ user, end }));
    if (text === undefined) throw new Error(`internal: there is no written summary of user ${user} after ${end} events`);
    return text;
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
