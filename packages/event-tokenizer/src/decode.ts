import type { Column, EventColumns, Row } from './columns.js';
import type { FittedField } from './fit.js';
import type { EventSchema, TimeUnit } from './schema.js';
import { MISSING_ID } from './special-ids.js';
import type { Vocabulary } from './vocabulary.js';

/** A number from its float32 standardised scalar, rounded to the digits that the scalar carries. */
export function restoreNumber(value: number, mean: number, deviation: number): number {
  const restored = value * deviation + mean;
  const uncertainty = Math.max(Math.abs(value), 2 ** -24) * deviation * 2 ** -23;
  const digits = Math.floor(-Math.log10(uncertainty));
  // Adding 0 makes a rounded -0 a 0.
  return digits < 0 ? restored : Number(restored.toFixed(Math.min(digits, 15))) + 0;
}

function writeTime(time: number, unit: TimeUnit): number | string | null {
  if (Number.isNaN(time)) return null;
  switch (unit) {
    case 'ms':
      // A double holds today's seconds to a fraction of a microsecond.
      return Math.round(time * 1e6) / 1e3;
    case 'iso':
      return new Date(Math.round(time * 1000)).toISOString();
    default:
      return time;
  }
}

/** Events as rows again, under the schema's column names, user by user. */
export function* decodeRows(
  events: EventColumns,
  schema: EventSchema,
  fitted: Readonly<Record<string, FittedField>>,
  vocabularies: ReadonlyMap<string, Vocabulary>,
): Generator<Row, void, undefined> {
  const readers: [column: string, read: (event: number) => unknown][] = [];
  for (const [name, spec] of Object.entries(schema.fields)) {
    const read = reader(events.fields[name], fitted[name], vocabularies.get(name)?.names ?? []);
    if (read) readers.push([spec.column, read]);
  }
  const { time } = schema;
  for (let user = 0; user < events.users.length; user++) {
    for (let e = events.offsets[user]; e < events.offsets[user + 1]; e++) {
      const row: Row = { [schema.user]: events.users[user] };
      if (time) row[time.column] = writeTime(events.times[e], time.unit);
      for (const [column, read] of readers) row[column] = read(e);
      yield row;
    }
  }
}

function reader(column: Column, fitted: FittedField, names: readonly string[]): ((event: number) => unknown) | undefined {
  switch (column.kind) {
    case 'categorical': {
      const { ids } = column;
      return (e) => (ids[e] === MISSING_ID ? null : names[ids[e]]);
    }
    case 'categories': {
      const { offsets, ids } = column;
      return (e) =>
        Array.from(
          ids.subarray(offsets[e], offsets[e + 1]).filter((id) => id !== MISSING_ID),
          (id) => names[id],
        );
    }
    case 'number': {
      if (fitted.kind !== 'number') throw new Error('internal: a number column without its fitted scale');
      const { ids, values } = column;
      return (e) => (ids[e] === MISSING_ID ? null : restoreNumber(values[e], fitted.mean, fitted.deviation));
    }
    case 'text':
    case 'time':
      return undefined;
    default:
      throw new Error(`internal: no decoding of ${(column satisfies never as Column).kind}`);
  }
}
