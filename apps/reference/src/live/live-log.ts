import { mkdir, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { UsageError } from '../errors.js';

const shape = z.looseObject({ user: z.string(), item: z.string(), time: z.number() });

/** An event that came after the run's data, its values by role. Time is in seconds since 1970. */
export type LiveEvent = z.infer<typeof shape>;

/**
 * The events that came after a run's data, one JSON text per line, in the order in which they were taken. What `append` has written is on the
 * disk when it returns; of a line that a crash cut, nothing was promised, and it goes with the next one.
 */
export class LiveLog {
  private readonly byUser = new Map<string, LiveEvent[]>();
  /** Whose each event is, in the order of the file. */
  private readonly owners: string[] = [];

  private constructor(
    private readonly file: string,
    /** Where the last whole line ends; what lies behind it is half a line. */
    private bytes: number,
    events: readonly LiveEvent[],
  ) {
    this.keep(events);
  }

  /** @throws UsageError for a line that is no event */
  static async read(file: string): Promise<LiveLog> {
    const content = await readFile(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0);
      throw error;
    });
    const bytes = content.lastIndexOf('\n') + 1;
    const lines = content.toString('utf8', 0, bytes).split('\n').slice(0, -1);
    return new LiveLog(
      file,
      bytes,
      lines.map((line, i) => eventOf(line, `${file}, line ${i + 1}`)),
    );
  }

  /** How many events there are. */
  get length(): number {
    return this.owners.length;
  }

  /** The users of the events from a place in the file on. */
  usersFrom(place: number): Set<string> {
    return new Set(this.owners.slice(place));
  }

  /** A user's events, oldest first. */
  of(user: string): readonly LiveEvent[] {
    return this.byUser.get(user) ?? [];
  }

  async append(events: readonly LiveEvent[]): Promise<void> {
    const lines = Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    await mkdir(path.dirname(this.file), { recursive: true });
    const handle = await open(this.file, 'a');
    try {
      await handle.truncate(this.bytes);
      await handle.writeFile(lines);
      await handle.sync();
    } finally {
      await handle.close();
    }
    this.bytes += lines.length;
    this.keep(events);
  }

  private keep(events: readonly LiveEvent[]): void {
    for (const event of events) {
      this.owners.push(event.user);
      const known = this.byUser.get(event.user);
      if (known) known.push(event);
      else this.byUser.set(event.user, [event]);
    }
  }
}

function eventOf(line: string, place: string): LiveEvent {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    parsed = undefined;
  }
  const event = shape.safeParse(parsed);
  if (event.success) return event.data;
  throw new UsageError(`${place}, is no event: the file was changed. Put back what was there, or take that line out`);
}
