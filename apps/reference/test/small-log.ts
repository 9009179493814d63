import { mkdtemp, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

/** A small CSV of ratings with a pattern: users walk along the items, each from a place of their own. */
export async function smallLog({
  users = 30,
  items = 40,
  events = 14,
  title = 'film',
  more = [] as string[],
} = {}): Promise<string> {
  const rows = ['user,item,rating,timestamp'];
  for (let user = 0; user < users; user++)
    for (let step = 0; step < events; step++)
      rows.push(`u${user},${title} ${(user * 3 + step) % items},${1 + (step % 5)},${1_600_000_000 + step * 3600}`);
  rows.push(...more);
  const file = path.join(await mkdtemp(path.join(os.tmpdir(), 'log-')), 'ratings.csv');
  await writeFile(file, `${rows.join('\n')}\n`);
  return file;
}

/** A small film service in MovieLens's layout: each user watches films of one genre of three, and now and then one of another. */
export async function smallFilmService({ users = 30, films = 24, events = 14 } = {}): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'service-'));
  const genres = ['Western', 'Drama', 'Comedy'];
  const list = Array.from({ length: films }, (_, film) => `${film + 1},Film ${film + 1} (1999),${genres[film % genres.length]}`);
  const rows = ['userId,movieId,rating,timestamp'];
  for (let user = 0; user < users; user++)
    for (let step = 0; step < events; step++) {
      const genre = step % 5 === 4 ? user + 1 : user;
      const film = (genres.length * (user + step) + (genre % genres.length)) % films;
      rows.push(`${user + 1},${film + 1},${1 + (step % 5)},${1_600_000_000 + step * 3600}`);
    }
  await writeFile(path.join(folder, 'movies.csv'), `${['movieId,title,genres', ...list].join('\n')}\n`);
  await writeFile(path.join(folder, 'ratings.csv'), `${rows.join('\n')}\n`);
  return folder;
}
