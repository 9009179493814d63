import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { archiveOf } from './archives.js';
import type { ArchiveFile } from './archives.js';
import { lockFolder } from './download-lock.js';
import { DownloadError } from './errors.js';
import { fetchFile } from './fetch-file.js';
import type { FetchOptions } from './fetch-file.js';
import { describeFile } from './text-file.js';
import { unzip } from './unzip.js';

export interface DownloadOptions extends FetchOptions {
  /** Fetch from here instead of the official address, such as a mirror of your own. */
  baseUrl?: string;
}

export interface DownloadedFile {
  name: string;
  url: string;
  bytes: number;
  /** Of the file as fetched. */
  sha256: string;
  /** `md5` when it matched the checksum that its owner publishes, `none` when there is none to compare with. */
  verified: 'md5' | 'none';
}

export interface DownloadResult {
  /** The folder to open with `openDataset`. */
  folder: string;
  files: DownloadedFile[];
  /** False when everything was there already. */
  fetched: boolean;
}

/** Written when all is done: a folder without it is not finished. */
const record = '.download.json';

interface Finished {
  name: string;
  files: DownloadedFile[];
  /** Paths of what is to be found in the folder: the files, or what was in them. Absent in records of earlier releases. */
  contents?: string[];
}

/**
 * Fetches an official archive into `folder/<name>`, checks it against the checksum that its owner publishes (MovieLens's fixed
 * releases), and unpacks it. A call that was broken off is carried on by the next; one that was finished is not repeated as long as
 * its files are there.
 *
 * @throws InvalidOptionError for an unknown name, DownloadError (also where another call is fetching the same into the folder),
 * ChecksumError, DamagedFileError, what `onProgress` throws
 */
export async function download(name: string, folder: string, options: DownloadOptions = {}): Promise<DownloadResult> {
  const archive = archiveOf(name);
  const target = path.join(folder, ...name.split('/'));
  const base = options.baseUrl === undefined ? archive.base : `${options.baseUrl.replace(/\/$/, '')}/`;
  await mkdir(target, { recursive: true });
  const done = await finished(target);
  if (done) return { folder: target, files: done, fetched: false };
  const unlock = await lockFolder(target, base + archive.files[0].path);
  try {
    // Another call may have finished between the first look and the lock.
    const since = await finished(target);
    if (since) return { folder: target, files: since, fetched: false };
    const files: DownloadedFile[] = [];
    const contents: string[] = [];
    for (const file of archive.files) {
      const { fetched, unpacked } = await fetchOne(base, file, target, options);
      files.push(fetched);
      contents.push(...unpacked);
    }
    const part = path.join(target, `${record}.part`);
    await writeFile(part, `${JSON.stringify({ name, files, contents } satisfies Finished, null, 2)}\n`);
    await rename(part, path.join(target, record));
    return { folder: target, files, fetched: true };
  } finally {
    await unlock();
  }
}

async function finished(target: string): Promise<DownloadedFile[] | undefined> {
  try {
    const { files, contents = [] } = JSON.parse(await readFile(path.join(target, record), 'utf8')) as Finished;
    for (const name of contents) await stat(path.join(target, name));
    return files;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function fetchOne(
  base: string,
  file: ArchiveFile,
  target: string,
  options: DownloadOptions,
): Promise<{ fetched: DownloadedFile; unpacked: string[] }> {
  const url = base + file.path;
  const name = path.posix.basename(file.path);
  const to = path.join(target, name);
  const md5 = file.md5 ? await publishedMd5(`${url}.md5`, options.signal) : undefined;
  // Fetched whole by an earlier call that was broken off at a later file.
  const there = !file.md5 && (await stat(to).catch(() => undefined)) !== undefined;
  const { bytes, sha256 } = there ? await hashed(to, options.signal) : await fetchFile(url, to, md5, options);
  const unpacked = file.unpack ? await unpackInto(to, target, options.signal) : [name];
  return { fetched: { name, url, bytes, sha256, verified: md5 === undefined ? 'none' : 'md5' }, unpacked };
}

async function hashed(file: string, signal: AbortSignal | undefined): Promise<{ bytes: number; sha256: string }> {
  const { bytes, sha256 } = await describeFile(file, { signal });
  return { bytes, sha256: sha256! };
}

async function publishedMd5(url: string, signal: AbortSignal | undefined): Promise<string> {
  let text: string;
  try {
    const response = await fetch(url, { signal });
    text = await response.text();
    if (!response.ok)
      throw new DownloadError(
        url,
        `the server answered ${response.status}`,
        'The archive cannot be checked without it: try again later.',
      );
  } catch (error) {
    signal?.throwIfAborted();
    if (DownloadError.isInstance(error)) throw error;
    throw new DownloadError(url, 'the server cannot be reached', 'Check the connection and call it again.', { cause: error });
  }
  const md5 = /\b[0-9a-f]{32}\b/i.exec(text)?.[0];
  if (md5 === undefined)
    throw new DownloadError(url, 'it holds no MD5 checksum', 'The archive cannot be checked without it: try again later.');
  return md5.toLowerCase();
}

/**
 * Unpacks beside and renames, so that no half-written file ever has its final name; then the archive has served. Returns the files'
 * paths in the target.
 */
async function unpackInto(archive: string, target: string, signal: AbortSignal | undefined): Promise<string[]> {
  const beside = await mkdtemp(path.join(target, '.unpacking-'));
  try {
    const unpacked = await unzip(archive, beside, signal);
    // Official archives hold one folder; its files go straight into the target.
    const top = await readdir(beside);
    const inner = top.length === 1 && (await stat(path.join(beside, top[0]))).isDirectory() ? path.join(beside, top[0]) : beside;
    for (const entry of await readdir(inner)) {
      await rm(path.join(target, entry), { recursive: true, force: true });
      await rename(path.join(inner, entry), path.join(target, entry));
    }
    await rm(archive, { force: true });
    return unpacked.map((file) => path.relative(inner, path.join(beside, file)));
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}
