import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';
import path from 'node:path';
import { z } from 'zod';

import { ColumnFolderError } from './errors.js';

export const MANIFEST = 'columns.json';
export const FOLDER_FORMAT = 'user-llm-event-columns';
/** Raised when a release writes folders that older ones would read wrongly. */
export const FOLDER_VERSION = 1;

const size = z.number().int().min(0);
const file = z.string().regex(/^[a-z0-9-]+(\.[a-z]+)?$/, 'not the name of a file');
const part = (...names: string[]) => z.strictObject(Object.fromEntries(names.map((name) => [name, file])));
const manifestShape = z.strictObject({
  format: z.literal(FOLDER_FORMAT),
  version: z.literal(FOLDER_VERSION),
  /** Byte order of all numbers. */
  endianness: z.enum(['LE', 'BE']),
  tokenizer: z.string().min(1),
  /** The folder beside the manifest that holds the files. */
  data: file,
  users: size,
  events: size,
  counts: z.strictObject({
    rows: size,
    events: size,
    rejected: size,
    outOfOrder: size,
    duplicates: size,
    unknownItems: size,
  }),
  rejected: z.array(
    z.strictObject({
      line: z.number(),
      field: z.string(),
      kind: z.enum(['malformed', 'unknown-item', 'out-of-order', 'duplicate']),
      reason: z.string(),
    }),
  ),
  fields: z.record(
    z.string(),
    z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('categorical'), width: z.undefined().optional(), parts: part('ids') }),
      z.strictObject({ kind: z.literal('categories'), width: z.undefined().optional(), parts: part('offsets', 'ids') }),
      z.strictObject({ kind: z.literal('number'), width: z.undefined().optional(), parts: part('ids', 'values') }),
      z.strictObject({ kind: z.literal('time'), width: z.undefined().optional(), parts: part('gap', 'hour', 'weekday') }),
      z.strictObject({ kind: z.literal('text'), width: z.number().int().min(1), parts: part('vectors') }),
    ]),
  ),
  /** Bytes by name. */
  files: z.record(file, size),
});

/** What a folder of columns holds; written last, so that a folder with it is whole. */
export type FolderManifest = z.infer<typeof manifestShape>;

export async function readManifest(folder: string): Promise<FolderManifest> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path.join(folder, MANIFEST), 'utf8'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new ColumnFolderError(folder, `there is no finished ${MANIFEST} in it`);
    if (error instanceof SyntaxError) throw new ColumnFolderError(folder, `its ${MANIFEST} is not JSON, or was cut short`);
    throw error;
  }
  const { version } = (content ?? {}) as { version?: unknown };
  if (typeof version === 'number' && version > FOLDER_VERSION)
    throw new ColumnFolderError(folder, `it has format version ${version}, and this release reads up to ${FOLDER_VERSION}`);
  const parsed = manifestShape.safeParse(content);
  if (!parsed.success) {
    const { path: place, message } = parsed.error.issues[0];
    throw new ColumnFolderError(folder, `${MANIFEST}, ${place.join('.') || 'the whole'}: ${message}`);
  }
  if (parsed.data.endianness !== endianness())
    throw new ColumnFolderError(folder, `it was written on a machine of the other byte order (${parsed.data.endianness})`);
  return parsed.data;
}
