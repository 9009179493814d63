import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Largest piece given to one write call; also keeps a request below the 2 GiB limit of one system call. */
const writeSize = 1 << 26;

/**
 * Writes a file so that a reader sees either the old content or the whole new one: into a temporary file beside it, synced, then
 * renamed, then the folder synced. When anything fails (a full disk, an exception from `chunks`), the temporary file is removed,
 * the old file stands as it was, and the error is thrown on.
 */
export async function writeFileAtomically(file: string, chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${file}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx');
  try {
    try {
      for await (const chunk of chunks) {
        for (let start = 0; start < chunk.byteLength;) {
          const { bytesWritten } = await handle.write(chunk, start, Math.min(writeSize, chunk.byteLength - start));
          start += bytesWritten;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    // Of a write the system names no file.
    if (error instanceof Error && 'code' in error && !('path' in error)) Object.assign(error, { path: file });
    throw error;
  }
  await syncFolder(path.dirname(file));
}

/** Makes a rename inside the folder durable. Where folders cannot be opened or synced (Windows), this does nothing. */
export async function syncFolder(folder: string): Promise<void> {
  let handle;
  try {
    handle = await open(folder, 'r');
    await handle.sync();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EISDIR' && code !== 'EPERM' && code !== 'EACCES' && code !== 'EINVAL' && code !== 'ENOTSUP') throw error;
  } finally {
    await handle?.close();
  }
}
