import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RowCache } from '../src/serving/row-cache.js';
import { failAllocations } from './failing-allocations.js';

const config = { keyValueHeads: 2, headSize: 3 };
const names = ['past_key_values.0.key', 'past_key_values.0.value'];

/** A row's numbers say which text, tensor, head, position and element they belong to. */
const numberOf = (text: number, name: number, head: number, position: number, element: number) =>
  text * 10_000 + name * 5_000 + head * 2_000 + position * 4 + element;

function rowOf(text: number, length: number, capacity: number) {
  const buffers = new Map(
    names.map((name, n) => {
      const buffer = new Float32Array(config.keyValueHeads * capacity * config.headSize).fill(-1);
      for (let head = 0; head < config.keyValueHeads; head++)
        for (let position = 0; position < length; position++)
          for (let element = 0; element < config.headSize; element++)
            buffer[(head * capacity + position) * config.headSize + element] = numberOf(text, n, head, position, element);
      return [name, buffer];
    }),
  );
  return { buffers, capacity };
}

/** The numbers of a row as the cache holds them, and as they were given. */
function expectRow(cache: RowCache, place: number, text: number, length: number) {
  names.forEach((name, n) => {
    for (let head = 0; head < config.keyValueHeads; head++) {
      const start = (place * config.keyValueHeads + head) * cache.capacity * config.headSize;
      const held = cache.buffers.get(name)!.subarray(start, start + length * config.headSize);
      const expected = Float32Array.from({ length: length * config.headSize }, (_, i) =>
        numberOf(text, n, head, Math.floor(i / config.headSize), i % config.headSize),
      );
      expect(Buffer.from(held.buffer, held.byteOffset, held.byteLength).equals(Buffer.from(expected.buffer))).toBe(true);
    }
  });
}

test('keeps every row\u2019s keys and values through coming, growing and leaving', () => {
  const action = fc.oneof(
    fc.record({ add: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.constant(400)) }),
    fc.record({ remove: fc.nat(20) }),
    fc.record({ tokens: fc.integer({ min: 1, max: 40 }) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 25 }), (actions) => {
      const cache = new RowCache(names, config, 16);
      const rows: { text: number; length: number }[] = [];
      let texts = 0;
      for (const each of actions) {
        if ('add' in each) {
          const row = { text: texts++, length: each.add };
          cache.add(rowOf(row.text, row.length, row.length + 2), row.length);
          rows.push(row);
        } else if ('remove' in each && rows.length > 0) {
          const at = each.remove % rows.length;
          cache.remove(at);
          const last = rows.pop()!;
          if (at < rows.length) rows[at] = last;
        } else if ('tokens' in each && rows.length > 0) {
          for (let token = 0; token < each.tokens; token++) {
            cache.grow();
            // What a run writes behind each row.
            rows.forEach(({ text, length }, place) =>
              names.forEach((name, n) => {
                for (let head = 0; head < config.keyValueHeads; head++)
                  for (let element = 0; element < config.headSize; element++)
                    cache.buffers.get(name)![
                      ((place * config.keyValueHeads + head) * cache.capacity + length) * config.headSize + element
                    ] = numberOf(text, n, head, length, element);
              }),
            );
            cache.advance();
            for (const row of rows) row.length++;
          }
        }
        expect(cache.lengths).toEqual(rows.map(({ length }) => length));
        rows.forEach(({ text, length }, place) => expectRow(cache, place, text, length));
      }
    }),
    { numRuns: 60 },
  );
});

test('gives its memory back when the last row leaves', () => {
  const cache = new RowCache(names, config, 16);
  cache.add(rowOf(0, 200, 200), 200);
  expect(cache.capacity).toBeGreaterThan(200);
  cache.remove(0);
  expect(cache.capacity).toBe(0);
  expect(cache.buffers.get(names[0])).toHaveLength(0);
});

test('memory that cannot be had leaves the rows where they are', () => {
  const cache = new RowCache(names, config, 16);
  cache.add(rowOf(0, 50, 50), 50);
  cache.add(rowOf(1, 40, 40), 40);
  const { capacity } = cache;
  const newcomer = rowOf(2, 200, 200);
  // The first tensor's memory is there, the second one's is not.
  let allocations = 0;
  const restore = failAllocations(() => ++allocations === 2);
  expect(() => cache.add(newcomer, 200)).toThrow('Array buffer allocation failed');
  restore();
  expect(cache.capacity).toBe(capacity);
  expect(cache.lengths).toEqual([50, 40]);
  expectRow(cache, 0, 0, 50);
  expectRow(cache, 1, 1, 40);
  cache.add(newcomer, 200);
  expectRow(cache, 0, 0, 50);
  expectRow(cache, 2, 2, 200);
});

/** A cache of rows of these lengths. */
function cacheOf(lengths: readonly number[], most = 16): RowCache {
  const cache = new RowCache(names, config, most);
  lengths.forEach((length, text) => cache.add(rowOf(text, length, length), length));
  return cache;
}

test('what a long row needed is given back when it leaves, and the others are still there', () => {
  const cache = cacheOf([40, 2000, 50]);
  expect(cache.capacity).toBeGreaterThan(2000);
  cache.remove(1);
  expect(cache.capacity).toBe(64);
  expectRow(cache, 0, 0, 40);
  expectRow(cache, 1, 2, 50);
});

test('and so are the places of a busy hour', () => {
  const elements = (rows: number) => rows * config.keyValueHeads * 64 * config.headSize;
  const cache = cacheOf(Array.from({ length: 16 }, () => 30));
  expect(cache.buffers.get(names[0])).toHaveLength(elements(16));
  while (cache.lengths.length > 3) cache.remove(1);
  expect(cache.buffers.get(names[0])!.length).toBeLessThanOrEqual(elements(8));
  expectRow(cache, 0, 0, 30);
});

test('there are never more places than rows at most', () => {
  const cache = cacheOf([30, 30, 30, 30, 30], 5);
  expect(cache.buffers.get(names[0])).toHaveLength(5 * config.keyValueHeads * 64 * config.headSize);
});

test('rows that come and go alike are not laid anew each time', () => {
  const cache = cacheOf([300, 300, 300, 300]);
  const layouts = new Set<Float32Array>();
  for (let i = 0; i < 50; i++) {
    cache.remove(0);
    cache.remove(0);
    for (const length of [150, 300]) cache.add(rowOf(9, length, length), length);
    layouts.add(cache.buffers.get(names[0])!);
  }
  expect(layouts.size).toBe(1);
});

test('memory for less that cannot be had is nobody\u2019s loss', () => {
  const cache = cacheOf([40, 2000]);
  const restore = failAllocations(() => true);
  cache.remove(1);
  restore();
  expect(cache.lengths).toEqual([40]);
  expectRow(cache, 0, 0, 40);
});
