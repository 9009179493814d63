import { mkdtemp, open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';

import { gatherColumn, gatherFloat64, gatherInt32 } from './gather.js';
import type { RawEvents } from './gather.js';
import { groupByUser } from './sort-users.js';
import { bagEnds, bytesOf, fixedParts, readColumn } from './stored-column.js';
import type { Section, StoredColumn } from './stored-column.js';

/** Events per page: where a user's events begin in a run is known to the page in memory, and found within it on disk. */
const PAGE = 4096;

/** Most bytes in one call to the file: at 2 GiB Node throws where it writes, and ends the process where it reads. */
const AT_ONCE = 2 ** 28;

/** Events grouped by user on disk; each user's are in file order. */
interface Run {
  readonly events: number;
  /** User of every {@link PAGE}-th event. */
  readonly pages: Int32Array;
  readonly users: Section;
  readonly times: Section;
  readonly lines: Section | undefined;
  readonly fields: Readonly<Record<string, StoredColumn>>;
  /** The events before this one were taken. */
  taken: number;
}

/**
 * Raw events on disk, in runs that are grouped by user each, to be taken range of users by range of users. The file has no name on
 * systems that allow it, so that a killed process leaves nothing behind.
 */
export class Spill {
  private readonly runs: Run[] = [];
  private end = 0;

  private constructor(
    private readonly file: FileHandle,
    private readonly folder: string,
  ) {}

  /** @param parent an existing folder with room for the events */
  static async create(parent: string): Promise<Spill> {
    const folder = await mkdtemp(path.join(parent, 'user-llm-spill-'));
    try {
      const file = await open(path.join(folder, 'events'), 'wx+');
      await rm(folder, { recursive: true, force: true }).catch(() => undefined);
      return new Spill(file, folder);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Writes events as one run and adds each user's number of them to `counts`. */
  async write({ userOf, times, lines, fields }: RawEvents, users: number, counts: Int32Array): Promise<void> {
    const { order, offsets } = groupByUser(userOf, users);
    for (let user = 0; user < users; user++) counts[user] += offsets[user + 1] - offsets[user];
    const sorted = gatherInt32(userOf, order);
    const stored: Record<string, StoredColumn> = {};
    for (const [name, column] of Object.entries(fields)) {
      const part = gatherColumn(column, order);
      const parts: Record<string, Section> = {};
      if (part.kind === 'categories') {
        const ends = new Float64Array(part.offsets.length);
        ends.set(bagEnds(part.offsets, 0), 1);
        parts.offsets = await this.append(bytesOf(ends));
        parts.ids = await this.append(bytesOf(part.ids));
      } else for (const [key, values] of Object.entries(fixedParts(part))) parts[key] = await this.append(bytesOf(values));
      stored[name] = { kind: part.kind, width: part.kind === 'text' ? part.width : undefined, parts };
    }
    this.runs.push({
      events: sorted.length,
      pages: Int32Array.from({ length: Math.ceil(sorted.length / PAGE) }, (_, page) => sorted[page * PAGE]),
      users: await this.append(bytesOf(sorted)),
      times: await this.append(bytesOf(gatherFloat64(times, order))),
      lines: lines && (await this.append(bytesOf(gatherFloat64(lines, order)))),
      fields: stored,
      taken: 0,
    });
  }

  /** The events of the next users, those below `to`; users are numbered from `from` on. Ranges follow one another. */
  async take(from: number, to: number): Promise<RawEvents> {
    const pieces: { run: Run; from: number; to: number }[] = [];
    for (const run of this.runs) {
      const end = await endOf(run, to);
      if (end > run.taken) pieces.push({ run, from: run.taken, to: end });
      run.taken = end;
    }
    const events = pieces.reduce((sum, piece) => sum + piece.to - piece.from, 0);
    const userOf = new Int32Array(events);
    const times = new Float64Array(events);
    const lines = this.runs[0].lines && new Float64Array(events);
    let at = 0;
    for (const { run, from: start, to: end } of pieces) {
      const next = at + end - start;
      await run.users.read(bytesOf(userOf.subarray(at, next)), start * 4);
      await run.times.read(bytesOf(times.subarray(at, next)), start * 8);
      if (lines) await run.lines?.read(bytesOf(lines.subarray(at, next)), start * 8);
      at = next;
    }
    for (let e = 0; e < events; e++) userOf[e] -= from;
    const fields: RawEvents['fields'] = {};
    for (const name of Object.keys(this.runs[0].fields)) {
      const column = await readColumn(pieces.map((piece) => ({ ...piece, column: piece.run.fields[name] })));
      if (column.kind === 'time') throw new Error('internal: time features before sorting');
      fields[name] = column;
    }
    return { userOf, times, lines, fields };
  }

  async close(): Promise<void> {
    await this.file.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  private async append(bytes: Uint8Array): Promise<Section> {
    const start = this.end;
    await writeAll(this.file, bytes, start);
    this.end += bytes.byteLength;
    return sectionOf(this.file, start);
  }
}

/** The place of a run's first event of a user that is not below `user`. */
async function endOf(run: Run, user: number): Promise<number> {
  const { pages, events } = run;
  let low = 0;
  let high = pages.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (pages[middle] < user) low = middle + 1;
    else high = middle;
  }
  // Page `low` begins at or after the place, the one before it begins before it.
  if (low === 0) return 0;
  const start = (low - 1) * PAGE;
  const page = new Int32Array(Math.min(PAGE, events - start));
  await run.users.read(bytesOf(page), start * 4);
  let at = 0;
  while (at < page.length && page[at] < user) at++;
  return start + at;
}

/** What stands in a file from `start` on. */
export function sectionOf(file: FileHandle, start = 0): Section {
  return {
    async read(bytes, at) {
      for (let done = 0; done < bytes.length;) {
        const { bytesRead } = await file.read(bytes, done, Math.min(AT_ONCE, bytes.length - done), start + at + done);
        if (bytesRead === 0) throw new Error('internal: the file is shorter than what was written to it');
        done += bytesRead;
      }
    },
  };
}

/** Writes all of the bytes at a place, or at the end where none is given. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, place?: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(AT_ONCE, bytes.length - done);
    const { bytesWritten } = await file.write(bytes, done, length, place === undefined ? null : place + done);
    done += bytesWritten;
  }
}
