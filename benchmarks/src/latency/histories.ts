import { simulateFilmService } from '@user-llm/datasets';
import { EventTokenizer, type Row } from '@user-llm/event-tokenizer';
import { longHistory } from '../encoder/log.js';

/** Users with histories of the lengths that are asked for, as rows and as text. */
export interface Histories {
  readonly tokenizer: EventTokenizer;
  /** One user's events, oldest first. */
  rows(count: number): Promise<readonly Row[]>;
  /** The same as a prompt has them: titles with their years, about 12 tokens an event. */
  text(rows: readonly Row[]): string;
}

export async function simulatedHistories(seed: number): Promise<Histories> {
  const data = simulateFilmService({ seed, users: 1200, items: 3706 });
  const tokenizer = await EventTokenizer.fit(data.schema, data.events);
  const log = { tokenizer, events: await tokenizer.encode(data.events) };
  const titles = new Map<string, string>();
  for await (const { id, title } of data.items!) titles.set(String(id), title ?? String(id));
  const item = Object.values(tokenizer.schema.fields).find((field) => field.kind === 'categorical' && field.item)!.column;
  return {
    tokenizer,
    rows: async (count) => [...tokenizer.decode(await longHistory(log, count))],
    text: (rows) => rows.map((row) => titles.get(String(row[item]))).join('; '),
  };
}
