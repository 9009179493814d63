import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { endianness } from 'node:os';
import path from 'node:path';

import type { EventColumns } from './columns.js';
import type { EncodeSummary } from './encode-chunks.js';
import { FOLDER_FORMAT, FOLDER_VERSION, MANIFEST } from './folder-manifest.js';
import type { FolderManifest } from './folder-manifest.js';
import { writeAll } from './spill.js';
import { bagEnds, bytesOf, fixedParts } from './stored-column.js';
import { writeAtomically } from './tokenizer-file.js';

const DATA = 'data-';

/** Appends chunks of columns to files. They count for nothing until `commit` has written the manifest that names them. */
export class FolderWriter {
  private readonly files = new Map<string, { file: FileHandle; bytes: number }>();
  private readonly fields: Record<string, { kind: string; width?: number; parts: Record<string, string> }> = {};
  private users = 0;
  private events = 0;
  private nameBytes = 0;
  /** Ids so far, by the field of bags. */
  private readonly bagIds: Record<string, number> = {};

  private constructor(
    private readonly folder: string,
    private readonly data: string,
  ) {}

  static async create(folder: string): Promise<FolderWriter> {
    const data = `${DATA}${randomUUID()}`;
    await mkdir(path.join(folder, data), { recursive: true });
    const writer = new FolderWriter(folder, data);
    try {
      for (const name of ['names', 'offsets']) await writer.write(name, bytesOf(new Float64Array(1)));
      for (const name of ['users', 'times']) await writer.write(name, new Uint8Array(0));
    } catch (error) {
      await writer.discard();
      throw error;
    }
    return writer;
  }

  async append({ users, offsets, times, fields }: EventColumns): Promise<void> {
    // UTF-16 keeps any text as it is, halves of surrogate pairs too.
    const names = Buffer.from(users.join(''), 'utf16le');
    await this.write('users', names);
    await this.write('names', bytesOf(Float64Array.from(users, ({ length }) => (this.nameBytes += 2 * length))));
    await this.write('offsets', bytesOf(bagEnds(offsets, this.events)));
    await this.write('times', bytesOf(times));
    for (const [at, [name, column]] of Object.entries(fields).entries()) {
      if (column.kind === 'categories') {
        const before = this.bagIds[name] ?? 0;
        this.bagIds[name] = before + column.ids.length;
        const parts = { offsets: `field${at}.offsets`, ids: `field${at}.ids` };
        if (this.fields[name] === undefined) await this.write(parts.offsets, bytesOf(new Float64Array(1)));
        await this.write(parts.offsets, bytesOf(bagEnds(column.offsets, before)));
        await this.write(parts.ids, bytesOf(column.ids));
        this.fields[name] = { kind: column.kind, parts };
        continue;
      }
      const parts: Record<string, string> = {};
      for (const [part, values] of Object.entries(fixedParts(column))) {
        parts[part] = `field${at}.${part}`;
        await this.write(parts[part], bytesOf(values));
      }
      this.fields[name] = { kind: column.kind, ...(column.kind === 'text' && { width: column.width }), parts };
    }
    this.users += users.length;
    this.events += times.length;
  }

  /** Makes the files durable, then replaces the manifest, then removes what older ones named. */
  async commit(tokenizer: string, { counts, rejected }: EncodeSummary): Promise<void> {
    const bytes: Record<string, number> = {};
    for (const [name, entry] of this.files) {
      bytes[name] = entry.bytes;
      await entry.file.sync();
    }
    await this.closeAll();
    await syncFolder(path.join(this.folder, this.data));
    const manifest = {
      format: FOLDER_FORMAT,
      version: FOLDER_VERSION,
      endianness: endianness(),
      tokenizer,
      data: this.data,
      users: this.users,
      events: this.events,
      counts,
      rejected,
      fields: this.fields,
      files: bytes,
    } as FolderManifest;
    await writeAtomically(path.join(this.folder, MANIFEST), `${JSON.stringify(manifest)}\n`);
    for (const entry of await readdir(this.folder))
      if (entry.startsWith(DATA) && entry !== this.data)
        // A reader on Windows may still have it open; the next write tries again.
        await rm(path.join(this.folder, entry), { recursive: true, force: true }).catch(() => undefined);
  }

  /** Removes the files written so far. */
  async discard(): Promise<void> {
    await this.closeAll();
    await rm(path.join(this.folder, this.data), { recursive: true, force: true });
  }

  private async write(name: string, bytes: Uint8Array): Promise<void> {
    let entry = this.files.get(name);
    if (entry === undefined) {
      entry = { file: await open(path.join(this.folder, this.data, name), 'wx'), bytes: 0 };
      this.files.set(name, entry);
    }
    await writeAll(entry.file, bytes);
    entry.bytes += bytes.byteLength;
  }

  private async closeAll(): Promise<void> {
    for (const { file } of this.files.values()) await file.close();
    this.files.clear();
  }
}

/** A name is durable once its folder is; not every system lets a folder be opened. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  try {
    await handle?.sync().catch(() => undefined);
  } finally {
    await handle?.close();
  }
}
