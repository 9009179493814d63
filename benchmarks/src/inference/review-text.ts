import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = path.dirname(path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url)))));

/** A folder of models or data: where the variable says, or beside the repository. */
export const beside = (variable: string, folder: string): string =>
  process.env[variable] ?? path.join(repository, '../shared', folder);

/** The file's own text, or the texts of the first reviews of Amazon's musical instruments; null where there are none. */
export async function reviewText(named: string | undefined): Promise<string | null> {
  if (named !== undefined) return readFile(named, 'utf8');
  const file = path.join(beside('USER_LLM_DATA', 'data'), 'amazon-musical-instruments/reviews_Musical_Instruments_5.json');
  if (!existsSync(file)) return null;
  const lines = (await readFile(file, 'utf8')).split('\n', 200).filter(Boolean);
  return lines.map((line) => (JSON.parse(line) as { reviewText: string }).reviewText).join('\n\n');
}

/** A text's ids in windows of a length, so many at most. */
export const windowsOf = (ids: readonly number[], length: number, most: number): number[][] =>
  Array.from({ length: Math.min(most, Math.floor(ids.length / length)) }, (_, i) => ids.slice(i * length, (i + 1) * length));
