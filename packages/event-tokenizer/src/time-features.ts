import type { TimeColumn } from './columns.js';
import type { TimeSpec } from './schema.js';
import { FIRST_VALUE_ID, MISSING_ID } from './special-ids.js';

/** Ids per time feature, the special ones included. */
export const HOUR_SIZE = FIRST_VALUE_ID + 24;
export const WEEKDAY_SIZE = FIRST_VALUE_ID + 7;

/** The gap bucket of so many seconds: 0 below one second, b for 2^(b-1) to 2^b, the last one open. */
export function gapBucket(seconds: number, buckets: number): number {
  const whole = seconds >= 0x7fffffff ? 0x7fffffff : Math.floor(seconds);
  return whole < 1 ? 0 : Math.min(32 - Math.clz32(whole), buckets - 1);
}

/**
 * Time features of events that are grouped by user and sorted.
 *
 * @param times [N] Unix seconds, NaN unknown
 * @param offsets [U + 1]
 * @param previous [U] time of the event before each user's first, NaN for none
 */
export function timeFeatures(times: Float64Array, offsets: Int32Array, previous: Float64Array, spec: TimeSpec): TimeColumn {
  const events = times.length;
  const gap = new Int32Array(events).fill(MISSING_ID);
  const hour = new Int32Array(events).fill(MISSING_ID);
  const weekday = new Int32Array(events).fill(MISSING_ID);
  if (spec.unit === 'order') return { kind: 'time', gap, hour, weekday };
  const shift = spec.utcOffsetMinutes * 60;
  const { gapBuckets } = spec;
  for (let user = 0; user + 1 < offsets.length; user++) {
    let before = previous[user];
    const end = offsets[user + 1];
    for (let e = offsets[user]; e < end; e++) {
      const now = times[e];
      const seconds = now - before;
      // NaN, a gap to or from an unknown time, passes neither test.
      if (seconds >= 0) gap[e] = FIRST_VALUE_ID + gapBucket(seconds, gapBuckets);
      else if (seconds < 0) gap[e] = FIRST_VALUE_ID;
      before = now;
      if (now !== now) continue;
      const local = now + shift;
      const day = Math.floor(local / 86400);
      hour[e] = FIRST_VALUE_ID + Math.floor((local - day * 86400) / 3600);
      // 1970-01-01 was a Thursday; Monday is 0.
      weekday[e] = FIRST_VALUE_ID + ((((day + 3) % 7) + 7) % 7);
    }
  }
  return { kind: 'time', gap, hour, weekday };
}
