import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const shared = process.env.USER_LLM_SHARED ?? fileURLToPath(new URL('../../../../shared', import.meta.url));

/** The folder of a real data set, or `undefined` (and a word about it) when it is not on this machine. */
export function realData(name: string): string | undefined {
  const folder = path.join(shared, 'data', name);
  if (existsSync(folder)) return folder;
  console.warn(`skipped: there is no shared/data/${name} beside the repository (or under USER_LLM_SHARED)`);
  return undefined;
}

/** A folder with these files, and how to remove it. */
export async function folderOf(
  files: Record<string, string | Uint8Array>,
): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'datasets-'));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), content);
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

export async function all<T>(source: AsyncIterable<T> | undefined): Promise<T[]> {
  const rows: T[] = [];
  for await (const row of source ?? []) rows.push(row);
  return rows;
}
