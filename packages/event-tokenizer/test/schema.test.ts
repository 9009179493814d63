import { describe, expect, test } from '@jest/globals';

import { categorical, eventSchema, item, number, SchemaError, text, time } from '../src/index.js';
import type { EventSchema } from '../src/index.js';

function problem(make: () => unknown): SchemaError {
  try {
    make();
  } catch (error) {
    if (SchemaError.isInstance(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('eventSchema', () => {
  test('needs exactly one item', () => {
    expect(problem(() => eventSchema({ user: 'u', fields: { a: categorical('a') } })).message).toBe(
      'fields: no field is the item. Make one with item(column).',
    );
    expect(problem(() => eventSchema({ user: 'u', fields: { a: item('a'), b: item('b') } })).message).toContain(
      'a and b are all items',
    );
  });

  test('names the place of what cannot work', () => {
    const cases: [EventSchema, string][] = [
      [{ user: '', fields: { a: item('a') } }, 'user'],
      [{ user: 'u', fields: { a: item('') } }, 'fields.a.column'],
      [{ user: 'u', fields: { a: item('a'), n: number('n', { buckets: 0 }) } }, 'fields.n.buckets'],
      [{ user: 'u', time: time('t', { utcOffsetMinutes: 0.5 }), fields: { a: item('a') } }, 'time.utcOffsetMinutes'],
      [{ user: 'u', time: time('t', { gapBuckets: 33 }), fields: { a: item('a') } }, 'time.gapBuckets'],
      [{ user: 'u', time: time('t', { unit: 'days' as 's' }), fields: { a: item('a') } }, 'time.unit'],
      [{ user: 'u', fields: { a: item('a'), time: categorical('t') } }, 'fields.time'],
    ];
    for (const [schema, path] of cases) expect(problem(() => eventSchema(schema)).path).toBe(path);
  });

  test('a text embedder must have the width that is asked for', () => {
    const embedder = { name: 'e', width: 3, embed: () => [] };
    expect(problem(() => text('t', { width: 4, embedder })).path).toBe('width');
    expect(text('t', { embedder }).width).toBe(3);
    expect(text('t').width).toBe(64);
  });

  test('is told by a marker, so that a second copy of the package is recognised', () => {
    const foreign = Object.assign(new Error('x'), { [Symbol.for('@user-llm/event-tokenizer.SchemaError')]: true });
    expect(SchemaError.isInstance(foreign)).toBe(true);
    expect(SchemaError.isInstance(new Error('x'))).toBe(false);
  });
});
