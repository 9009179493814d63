import type { TimeUnit } from './dataset.js';

/** A field of the suggested schema, as `item`, `categories`, ... of the event tokenizer make it. */
export type SuggestedField =
  | { readonly kind: 'categorical'; readonly column: string; readonly item: boolean }
  | { readonly kind: 'categories'; readonly column: string; readonly separator: string }
  | { readonly kind: 'number'; readonly column: string; readonly buckets: number };

export interface EventSchema {
  readonly user: string;
  readonly time?: {
    readonly kind: 'time';
    readonly column: string;
    readonly unit: TimeUnit;
    readonly utcOffsetMinutes: number;
    readonly gapBuckets: number;
  };
  readonly fields: Readonly<Record<string, SuggestedField>>;
}

/** What the normalised events of a source hold besides user and item. */
export interface EventContents {
  time?: TimeUnit;
  categories?: boolean;
  rating?: boolean;
  text?: boolean;
  categorical?: readonly string[];
  numbers?: readonly string[];
}

/** The schema for normalised rows: their columns are called alike whatever the source. */
export function suggestSchema(contents: EventContents): EventSchema {
  const fields: Record<string, SuggestedField> = { item: { kind: 'categorical', column: 'item', item: true } };
  if (contents.categories) fields.categories = { kind: 'categories', column: 'categories', separator: '|' };
  for (const name of contents.categorical ?? []) fields[name] = { kind: 'categorical', column: name, item: false };
  if (contents.rating) fields.rating = { kind: 'number', column: 'rating', buckets: 10 };
  return {
    user: 'user',
    ...(contents.time && {
      time: { kind: 'time' as const, column: 'time', unit: contents.time, utcOffsetMinutes: 0, gapBuckets: 32 },
    }),
    fields,
  };
}
