import { categorical, categories, eventSchema, item, number, text, time } from '@user-llm/event-tokenizer';
import type { EventSchema, FieldSpec } from '@user-llm/event-tokenizer';
import type { TimeUnit } from './dataset.js';

/** What the normalised events of a source hold besides user and item. */
export interface EventContents {
  /** Absent when the source has neither times nor an order. */
  time?: TimeUnit;
  categories?: boolean;
  rating?: boolean;
  text?: boolean;
  /** More columns with one value out of many. */
  categorical?: readonly string[];
  /** More columns with numbers. */
  numbers?: readonly string[];
}

/** The schema for normalised rows: their columns are called alike whatever the source. */
export function suggestSchema(contents: EventContents): EventSchema {
  const fields: Record<string, FieldSpec> = { item: item('item') };
  if (contents.categories) fields.categories = categories('categories');
  for (const name of contents.categorical ?? []) fields[name] = categorical(name);
  if (contents.rating) fields.rating = number('rating', { buckets: 10 });
  for (const name of contents.numbers ?? []) fields[name] = number(name, { buckets: 10 });
  if (contents.text) fields.text = text('text');
  return eventSchema({ user: 'user', ...(contents.time && { time: time('time', { unit: contents.time }) }), fields });
}
