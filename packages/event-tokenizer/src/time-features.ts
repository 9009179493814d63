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
  const gap = new Int32Array(events);
  const hour = new Int32Array(events);
  const weekday = new Int32Array(events);
  if (spec.unit === 'order') {
    for (const ids of [gap, hour, weekday]) ids.fill(MISSING_ID);
    return { kind: 'time', gap, hour, weekday };
  }
  const shift = spec.utcOffsetMinutes * 60;
  const { gapBuckets } = spec;
  for (let user = 0; user + 1 < offsets.length; user++) {
    let before = previous[user];
    const end = offsets[user + 1];
    for (let e = offsets[user]; e < end; e++) {
      const now = times[e];
      const seconds = now - before;
      // NaN, a gap to or from an unknown time, passes neither test.
      gap[e] = seconds >= 0 ? FIRST_VALUE_ID + gapBucket(seconds, gapBuckets) : seconds < 0 ? FIRST_VALUE_ID : MISSING_ID;
      before = now;
      const local = now + shift;
      if (local >= 0 && local < 0x7fffffff) {
        // Whole numbers of 32 bits, as nearly all times are: 1970-01-01 was a Thursday; Monday is 0.
        const hours = ((local | 0) / 3600) | 0;
        const day = (hours / 24) | 0;
        hour[e] = FIRST_VALUE_ID + hours - day * 24;
        weekday[e] = FIRST_VALUE_ID + ((day + 3) % 7);
      } else if (now === now) {
        const day = Math.floor(local / 86400);
        hour[e] = FIRST_VALUE_ID + Math.floor((local - day * 86400) / 3600);
        weekday[e] = FIRST_VALUE_ID + ((((day + 3) % 7) + 7) % 7);
      } else {
        hour[e] = MISSING_ID;
        weekday[e] = MISSING_ID;
      }
    }
  }
  return { kind: 'time', gap, hour, weekday };
}
