import { randomUUID } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';

import { TokenizerFormatError } from './errors.js';

/** Writes a file so that at any moment either the old or the new one is there, whole. */
export async function writeAtomically(file: string, data: string): Promise<void> {
  const folder = path.dirname(path.resolve(file));
  const part = path.join(folder, `.${path.basename(file)}.${randomUUID()}.part`);
  try {
    const handle = await open(part, 'wx');
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    // Of a write the system names no file.
    if (error instanceof Error && 'code' in error && !('path' in error)) Object.assign(error, { path: file });
    throw error;
  }
  // The name is durable once its folder is; not every system lets a folder be opened.
  const handle = await open(folder, 'r').catch(() => undefined);
  try {
    await handle?.sync().catch(() => undefined);
  } finally {
    await handle?.close();
  }
}

export async function readTokenizerFile(file: string): Promise<unknown> {
  let content: string;
  try {
    content = await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new TokenizerFormatError(file, 'there is no such file');
    if (code === 'EISDIR') throw new TokenizerFormatError(file, 'it is a folder');
    throw error;
  }
  try {
    return JSON.parse(content) as unknown;
  } catch {
    throw new TokenizerFormatError(file, 'it is not JSON, or was cut short');
  }
}
