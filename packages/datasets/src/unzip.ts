import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

import yauzl from 'yauzl';
import type { Entry, ZipFile } from 'yauzl';

import { DamagedFileError } from './errors.js';

/** No archive in the table unpacks to more; a bomb would. */
const mostBytes = 16 * 2 ** 30;

/**
 * Unpacks a zip archive into a folder. yauzl refuses absolute paths, `..` and sizes that lie; links are written as plain files.
 *
 * @returns the paths of the files, relative to the folder.
 * @throws DamagedFileError when it is no zip archive, or a broken or dangerous one.
 */
export async function unzip(archive: string, folder: string, signal?: AbortSignal): Promise<string[]> {
  const name = path.basename(archive);
  const fail = (error: Error) => new DamagedFileError(name, `it cannot be unpacked (${error.message})`, { cause: error });
  const zip = await new Promise<ZipFile>((resolve, reject) => {
    yauzl.open(archive, { lazyEntries: true, autoClose: false }, (error, opened) =>
      error ? reject(fail(error)) : resolve(opened),
    );
  });
  const written: string[] = [];
  let total = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const entry = await nextEntry(zip).catch((error: Error) => {
        throw fail(error);
      });
      if (entry === undefined) return written;
      total += entry.uncompressedSize;
      if (total > mostBytes) throw new DamagedFileError(name, `it would unpack to more than ${mostBytes} bytes`);
      const target = path.join(folder, entry.fileName);
      if (entry.fileName.endsWith('/')) {
        await mkdir(target, { recursive: true });
        continue;
      }
      await mkdir(path.dirname(target), { recursive: true });
      await writeEntry(zip, entry, target, signal).catch(async (error: NodeJS.ErrnoException) => {
        await rm(target, { force: true });
        // zlib's errors and yauzl's own; errors of the file system keep their code.
        throw error.code === undefined || error.code.startsWith('Z_') ? fail(error) : error;
      });
      written.push(entry.fileName);
    }
  } finally {
    zip.close();
  }
}

function nextEntry(zip: ZipFile): Promise<Entry | undefined> {
  return new Promise((resolve, reject) => {
    const done = () => {
      zip.off('entry', onEntry).off('end', onEnd).off('error', onError);
    };
    const onEntry = (entry: Entry) => (done(), resolve(entry));
    const onEnd = () => (done(), resolve(undefined));
    const onError = (error: Error) => (done(), reject(error));
    zip.on('entry', onEntry).on('end', onEnd).on('error', onError);
    zip.readEntry();
  });
}

async function writeEntry(zip: ZipFile, entry: Entry, target: string, signal: AbortSignal | undefined): Promise<void> {
  const content = await new Promise<NodeJS.ReadableStream>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => (error ? reject(error) : resolve(opened)));
  });
  await pipeline(content, createWriteStream(target), { signal });
}
