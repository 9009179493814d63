import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';

import type { EventTokenizer } from './event-tokenizer.js';
import type { Column, EncodeCounts, EventColumns, Rejection } from './columns.js';
import type { EncodedChunks } from './encode-chunks.js';
import { ColumnFolderError, SchemaError, TokenizerMismatchError, UnknownUserError } from './errors.js';
import { FolderWriter } from './folder-writer.js';
import { readManifest } from './folder-manifest.js';
import type { FolderManifest } from './folder-manifest.js';
import { sectionOf } from './spill.js';
import { readColumn, readFloats64 } from './stored-column.js';
import type { StoredColumn } from './stored-column.js';

const EVENTS_PER_CHUNK = 1 << 19;

/**
 * Encoded events in a folder of typed-array files, read a range of users at a time. In memory are 8 bytes per user and what was asked
 * for. Close it when done.
 */
export class ColumnFolder {
  /** Hash of the tokenizer that made the ids. */
  readonly tokenizer: string;
  readonly users: number;
  readonly events: number;
  readonly counts: EncodeCounts;
  /** The first rejected rows by line. */
  readonly rejected: readonly Rejection[];
  private closed = false;

  private constructor(
    private readonly folder: string,
    private readonly files: ReadonlyMap<string, FileHandle>,
    manifest: FolderManifest,
    private readonly offsets: Float64Array,
    private readonly fields: Readonly<Record<string, StoredColumn>>,
  ) {
    this.tokenizer = manifest.tokenizer;
    this.users = manifest.users;
    this.events = manifest.events;
    this.counts = manifest.counts;
    this.rejected = manifest.rejected;
  }

  /**
   * Writes all chunks and opens the result. Until everything is on disk a reader sees what was there before, or nothing: a killed
   * process leaves the old content, and the next `write` removes what it left behind. One writer at a time.
   *
   * @throws what encoding throws; the folder is then as it was
   */
  static async write(folder: string, chunks: EncodedChunks): Promise<ColumnFolder> {
    const writer = await FolderWriter.create(folder);
    try {
      let any = false;
      for await (const chunk of chunks) {
        await writer.append(chunk);
        any = true;
      }
      // A log without events has its columns too, or others could not be joined to it.
      if (!any) await writer.append(await chunks.empty());
      await writer.commit(chunks.tokenizer, chunks.summary);
    } catch (error) {
      await writer.discard();
      throw error;
    }
    return ColumnFolder.open(folder);
  }

  /**
   * @param tokenizer refuse columns that another one made
   * @throws ColumnFolderError for a folder that `write` did not finish, that is damaged, or of a newer release; TokenizerMismatchError
   */
  static async open(folder: string, { tokenizer }: { tokenizer?: Pick<EventTokenizer, 'hash'> } = {}): Promise<ColumnFolder> {
    for (let manifest = await readManifest(folder); ;) {
      if (tokenizer && tokenizer.hash !== manifest.tokenizer)
        throw new TokenizerMismatchError(tokenizer.hash, manifest.tokenizer);
      try {
        return await ColumnFolder.openFiles(folder, manifest);
      } catch (error) {
        // A writer may have replaced the content, and removed these files, since the manifest was read.
        const newer = await readManifest(folder);
        if (newer.data === manifest.data) throw error;
        manifest = newer;
      }
    }
  }

  private static async openFiles(folder: string, manifest: FolderManifest): Promise<ColumnFolder> {
    const files = new Map<string, FileHandle>();
    try {
      for (const [name, bytes] of Object.entries(manifest.files)) {
        const file = await open(path.join(folder, manifest.data, name), 'r').catch((error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') throw new ColumnFolderError(folder, `its file ${name} is not there`);
          throw error;
        });
        files.set(name, file);
        const { size } = await file.stat();
        if (size !== bytes) throw new ColumnFolderError(folder, `its file ${name} has ${size} bytes instead of ${bytes}`);
      }
      const section = (name: string) => {
        const file = files.get(name);
        if (file === undefined) throw new ColumnFolderError(folder, `its list of files lacks ${name}`);
        return sectionOf(file);
      };
      for (const name of ['users', 'names', 'times']) section(name);
      const fields = Object.fromEntries(
        Object.entries(manifest.fields).map(([name, { kind, width, parts }]): [string, StoredColumn] => [
          name,
          { kind, width, parts: Object.fromEntries(Object.entries(parts).map(([part, file]) => [part, section(file)])) },
        ]),
      );
      const offsets = await readFloats64(section('offsets'), 0, manifest.users + 1);
      if (offsets[manifest.users] !== manifest.events)
        throw new ColumnFolderError(folder, 'its offsets do not end at its events');
      return new ColumnFolder(folder, files, manifest, offsets, fields);
    } catch (error) {
      for (const file of files.values()) await file.close();
      throw error;
    }
  }

  /** How many events user `u` has. */
  eventsOf(u: number): number {
    this.check(u, this.users - 1);
    return this.offsets[u + 1] - this.offsets[u];
  }

  /**
   * The users at indices `from` (inclusive) to `to` (exclusive), with all their events.
   *
   * @throws UnknownUserError; ColumnFolderError after `close`
   */
  async read(from: number, to: number): Promise<EventColumns> {
    if (this.closed) throw new ColumnFolderError(this.folder, 'it was closed', 'Open it again with ColumnFolder.open.');
    this.check(from, this.users);
    this.check(to, this.users);
    if (to < from) throw new UnknownUserError(to, this.users);
    const first = this.offsets[from];
    const last = this.offsets[to];
    if (last - first > 0x7fffffff)
      throw new SchemaError('to', `${last - first} events are more than fit in one piece. Ask for fewer users.`);
    const fields: Record<string, Column> = {};
    for (const [name, column] of Object.entries(this.fields))
      fields[name] = await readColumn([{ column, from: first, to: last }]);
    return {
      tokenizer: this.tokenizer,
      users: await this.names(from, to),
      offsets: Int32Array.from(this.offsets.subarray(from, to + 1), (offset) => offset - first),
      times: await readFloats64(sectionOf(this.file('times')), first, last),
      fields,
      rejected: [],
    };
  }

  /** All users in order, as many at a time as have at most `events` events together (one user at least). */
  async *chunks({ events = EVENTS_PER_CHUNK }: { events?: number } = {}): AsyncGenerator<EventColumns, void, void> {
    if (!Number.isInteger(events) || events < 1) throw new SchemaError('events', `${events} is not a positive whole number.`);
    const { offsets, users } = this;
    for (let from = 0; from < users;) {
      let to = from + 1;
      while (to < users && offsets[to + 1] - offsets[from] <= events) to++;
      yield await this.read(from, to);
      from = to;
    }
  }

  /** Closes its files; closing again is fine. */
  async close(): Promise<void> {
    this.closed = true;
    for (const file of this.files.values()) await file.close();
  }

  private async names(from: number, to: number): Promise<string[]> {
    const ends = await readFloats64(sectionOf(this.file('names')), from, to + 1);
    const bytes = Buffer.alloc(ends[to - from] - ends[0]);
    await sectionOf(this.file('users')).read(bytes, ends[0]);
    return Array.from({ length: to - from }, (_, u) => bytes.toString('utf16le', ends[u] - ends[0], ends[u + 1] - ends[0]));
  }

  private file(name: string): FileHandle {
    const file = this.files.get(name);
    if (file === undefined) throw new Error(`internal: no file ${name}`);
    return file;
  }

  private check(user: number, last: number): void {
    if (!Number.isInteger(user) || user < 0 || user > last) throw new UnknownUserError(user, this.users);
  }
}
