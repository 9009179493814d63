import { simulateFilmService } from '@user-llm/datasets';
import { EventTokenizer, type EventColumns, type Row } from '@user-llm/event-tokenizer';

export interface Log {
  readonly tokenizer: EventTokenizer;
  readonly events: EventColumns;
}

/** The simulated film service with as many films as MovieLens-1M: item, genres, rating and time. */
export async function simulatedLog(seed: number): Promise<Log> {
  const data = simulateFilmService({ seed, users: 1200, items: 3706 });
  const tokenizer = await EventTokenizer.fit(data.schema, data.events);
  return { tokenizer, events: await tokenizer.encode(data.events) };
}

/** One user who did what several users did, one after the other: as many events as are asked for, times going forward. */
export async function longHistory({ tokenizer, events }: Log, count: number): Promise<EventColumns> {
  const { user, time } = tokenizer.schema;
  const column = time!.column;
  const rows: Row[] = [];
  let shift = 0;
  let last: { user: unknown; time: number } | undefined;
  for (const row of tokenizer.decode(events)) {
    if (rows.length === count) break;
    if (last && row[user] !== last.user) shift = last.time + 3600 - Number(row[column]);
    last = { user: row[user], time: Number(row[column]) + shift };
    rows.push({ ...row, [user]: 'long', [column]: last.time });
  }
  if (rows.length < count) throw new Error(`internal: the log has ${rows.length} events, and ${count} are asked for`);
  // Encoded again, so that gaps are those between these events.
  return tokenizer.encode(rows);
}
