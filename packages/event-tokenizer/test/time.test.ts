import { describe, expect, test } from '@jest/globals';

import { EventTokenizer, eventSchema, item, time } from '../src/index.js';
import type { EncodedEvents, TimeColumn } from '../src/index.js';
import { gapBucket } from '../src/time-features.js';

async function encode(times: unknown[], options: Parameters<typeof time>[1]): Promise<EncodedEvents> {
  const schema = eventSchema({ user: 'u', time: time('t', options), fields: { film: item('film') } });
  const rows = times.map((t) => ({ u: 'ann', t, film: 'a' }));
  const tokenizer = await EventTokenizer.fit(schema, [{ u: 'x', t: null, film: 'a' }]);
  return tokenizer.encode(rows);
}

const column = (events: EncodedEvents) => events.fields.time as TimeColumn;

describe('time', () => {
  test('gap buckets double: below a second, then 2^(b-1) to 2^b, the last one open', () => {
    const at = (seconds: number) => gapBucket(seconds, 32);
    expect([0, 0.9, 1, 1.9, 2, 3.9, 4, 86400].map(at)).toEqual([0, 0, 1, 1, 2, 2, 3, 17]);
    expect([2 ** 30, 2 ** 31 - 1, 2 ** 31, 1e12].map(at)).toEqual([31, 31, 31, 31]);
    expect([4, 8, 1e9].map((seconds) => gapBucket(seconds, 4))).toEqual([3, 3, 3]);
  });

  test('hour and weekday are those of the calendar in UTC, and with an offset', async () => {
    const moments = ['2024-02-29T23:59:59Z', '1969-12-31T00:00:00Z', '2000-01-01T00:30:00Z', '1970-01-01T00:00:00Z'];
    for (const minutes of [0, 330, -480]) {
      const events = await encode(moments, { unit: 'iso', utcOffsetMinutes: minutes });
      const local = Array.from(events.times, (seconds) => new Date((seconds + minutes * 60) * 1000));
      expect(Array.from(column(events).hour)).toEqual(local.map((date) => 4 + date.getUTCHours()));
      expect(Array.from(column(events).weekday)).toEqual(local.map((date) => 4 + ((date.getUTCDay() + 6) % 7)));
    }
  });

  test('seconds, milliseconds, ISO texts and dates are one and the same', async () => {
    const seconds = await encode([1_700_000_000, '1700000060.5'], { unit: 's' });
    for (const [times, unit] of [
      [[1_700_000_000_000, '1700000060500'], 'ms'],
      [['2023-11-14T22:13:20Z', '2023-11-14T23:14:20.500+01:00'], 'iso'],
      [['2023-11-14 22:13:20', '2023-11-14T22:14:20.500Z'], 'iso'],
      [[new Date(1_700_000_000_000), new Date(1_700_000_060_500)], 's'],
    ] as const) {
      const events = await encode([...times], { unit });
      expect(events.rejected).toEqual([]);
      expect(events.times).toEqual(seconds.times);
      expect(column(events)).toEqual(column(seconds));
    }
  });

  test('what is no time is refused', async () => {
    const cases: [unknown, 's' | 'ms' | 'iso' | 'order'][] = [
      ['2023-13-45', 'iso'],
      ['2024-02-30', 'iso'],
      ['2023-02-29T10:00:00Z', 'iso'],
      ['2023-04-31', 'iso'],
      ['14/11/2023', 'iso'],
      [5, 'iso'],
      [true, 's'],
      [new Date(NaN), 's'],
      [new Date(0), 'order'],
      [-Infinity, 'order'],
      [1e18, 'ms'],
    ];
    for (const [value, unit] of cases) expect((await encode([value], { unit })).counts).toMatchObject({ events: 0, rejected: 1 });
    expect((await encode([1e18], { unit: 'ms' })).rejected[0].reason).toBe(
      '1000000000000000000 as milliseconds is beyond the year 9999',
    );
  });

  test('an order sorts and is no time', async () => {
    const events = await encode([3, 1, '2'], { unit: 'order' });
    expect(Array.from(events.times)).toEqual([1, 2, 3]);
    expect(column(events)).toEqual({
      kind: 'time',
      gap: Int32Array.of(3, 3, 3),
      hour: Int32Array.of(3, 3, 3),
      weekday: Int32Array.of(3, 3, 3),
    });
  });
});
