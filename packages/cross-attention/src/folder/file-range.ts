import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';

/** A file of which parts are read later, and what tells whether it is still the same. */
export interface FileSource {
  readonly file: string;
  readonly fileBytes: number;
  readonly modified: number;
}

/** A file as it is now. */
export function fileSource(file: string): FileSource {
  const { size, mtimeMs } = statSync(file);
  return { file, fileBytes: size, modified: mtimeMs };
}

/** Fills `values` with what begins at a byte of the file; throws what `fail` makes of a file that is gone or another one by now. */
export function readRange(source: FileSource, begin: number, values: Uint8Array, fail: (cause?: unknown) => Error): Uint8Array {
  let descriptor: number;
  try {
    descriptor = openSync(source.file, 'r');
  } catch (error) {
    throw fail(error);
  }
  try {
    const stats = fstatSync(descriptor);
    if (stats.size !== source.fileBytes || stats.mtimeMs !== source.modified) throw fail();
    for (let at = 0; at < values.length;) {
      const read = readSync(descriptor, values, at, values.length - at, begin + at);
      if (read === 0) throw fail();
      at += read;
    }
    return values;
  } finally {
    closeSync(descriptor);
  }
}
