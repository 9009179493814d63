import { describe, expect, test } from '@jest/globals';
import { bodyLength } from '../src/lmdb-driver.js';
import { decodeRecord, encodeRecord, recordSequence } from '../src/record.js';
import { embedding } from './support.js';

describe('a record', () => {
  const record = encodeRecord(
    embedding('user-42', { tenant: 'acme', state: Uint8Array.from([9, 8]), expiresAt: 1_900_000_000 }),
    1_800_000_000,
  );

  test('with any one bit flipped is damaged', () => {
    for (let bit = 0; bit < record.length * 8; bit++) {
      const flipped = Buffer.from(record);
      flipped[bit >> 3] ^= 1 << (bit & 7);
      expect(decodeRecord(flipped).ok).toBe(false);
    }
  });

  test('cut short or with something behind it is damaged', () => {
    for (let length = 0; length < record.length; length++) expect(decodeRecord(record.subarray(0, length)).ok).toBe(false);
    expect(decodeRecord(Buffer.concat([record, Buffer.of(0)])).ok).toBe(false);
  });

  test('of a later format says so', () => {
    const later = Buffer.from(record);
    later.writeUInt16LE(2, 4);
    expect(decodeRecord(later)).toEqual({ ok: false, reason: 'its format version is 2; this package reads 1' });
  });

  test('that is damaged has no sequence, so that a good one may replace it', () => {
    expect(recordSequence(record, 0)).toBe(1);
    const damaged = Buffer.from(record);
    damaged[damaged.length - 1] ^= 1;
    expect(recordSequence(damaged, 0)).toBeUndefined();
  });

  test('does not share memory with what it was read from', () => {
    const source = Buffer.from(record);
    const decoded = decodeRecord(source);
    source.fill(0);
    expect(decoded).toEqual(decodeRecord(record));
  });
});

test('a record just over whole pages is cut so that it fills them', () => {
  expect(bodyLength(300)).toBe(300);
  expect(bodyLength(4072)).toBe(4072);
  expect(bodyLength(4073)).toBe(4072);
  expect(bodyLength(8192 + 220)).toBe(8192 - 24);
  expect(bodyLength(8192 + 2000)).toBe(8192 + 2000);
});
