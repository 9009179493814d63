import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

/** A small CSV of ratings with a pattern: users walk along the items, each from a place of their own. */
export async function smallLog({ users = 30, items = 40, events = 14, more = [] as string[] } = {}): Promise<string> {
  const rows = ['user,item,rating,timestamp'];
  for (let user = 0; user < users; user++)
    for (let step = 0; step < events; step++)
      rows.push(`u${user},film ${(user * 3 + step) % items},${1 + (step % 5)},${1_600_000_000 + step * 3600}`);
  rows.push(...more);
  const file = path.join(await mkdtemp(path.join(os.tmpdir(), 'log-')), 'ratings.csv');
  await writeFile(file, `${rows.join('\n')}\n`);
  return file;
}
