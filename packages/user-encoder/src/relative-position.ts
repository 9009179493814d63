import type { Band, EncoderConfig } from './config.js';

/** Frequencies of rotary positions fall from 1 to 1 / base. */
const base = 10_000;

/**
 * Cosines and sines of positions `first` to `first + count` for heads of a width: each [count, width / 2]. Angles are computed in double
 * precision: a position of a billion is turned as exactly as the first.
 */
export function rotaryAngles(first: number, count: number, width: number): { cosine: Float32Array; sine: Float32Array } {
  const half = width / 2;
  const cosine = new Float32Array(count * half);
  const sine = new Float32Array(count * half);
  writeRotaryAngles(first, count, width, cosine, sine);
  return { cosine, sine };
}

/** The same into arrays that are there already. */
export function writeRotaryAngles(first: number, count: number, width: number, cosine: Float32Array, sine: Float32Array): void {
  const half = width / 2;
  for (let i = 0; i < half; i++) {
    const frequency = base ** (-i / half);
    for (let position = 0; position < count; position++) {
      const angle = (first + position) * frequency;
      cosine[position * half + i] = Math.cos(angle);
      sine[position * half + i] = Math.sin(angle);
    }
  }
}

/** Periods of the turns by time, in seconds: from a minute to four years. */
const shortestPeriod = 60;
const longestPeriod = 4 * 365.25 * 86_400;

/**
 * The turns of `rotary-time`: in a head of `half` pairs of numbers the first go by place, the rest by time. Only differences of angles
 * count, and they are as exact as the angles: in double precision, a second of the year 3000 among them.
 */
export class Turns {
  private readonly ofPlace: Float64Array;
  private readonly ofTime: Float64Array;

  /** @param half D / H / 2, at least 2 */
  constructor(readonly half: number) {
    const timed = Math.floor(half / 2);
    const placed = half - timed;
    this.ofPlace = Float64Array.from({ length: placed }, (_, i) => base ** (-i / placed));
    const step = (longestPeriod / shortestPeriod) ** (1 / Math.max(1, timed - 1));
    this.ofTime = Float64Array.from({ length: timed }, (_, i) => (2 * Math.PI) / (shortestPeriod * step ** i));
  }

  /** Writes the cosines and sines of one event, `half` each, from `at` on. @param seconds Unix time; see {@link knownTime} */
  write(position: number, seconds: number, cosine: Float32Array, sine: Float32Array, at = 0): void {
    let to = at;
    for (const frequency of this.ofPlace) turn(position * frequency);
    for (const frequency of this.ofTime) turn(seconds * frequency);
    function turn(angle: number): void {
      cosine[to] = Math.cos(angle);
      sine[to++] = Math.sin(angle);
    }
  }
}

/**
 * The time at which `rotary-time` reads an event: its own, or where that is unknown, that of the last one before it in the log whose time
 * is known, or `before` where there is none.
 *
 * @param first index of the user's first event
 */
export function knownTime(times: Float64Array, event: number, first: number, before = 0): number {
  for (let at = event; at >= first; at--) if (times[at] === times[at]) return times[at];
  return before;
}

/** Distances up to this one have a bucket of their own; further ones share four per doubling. */
const exactDistances = 16;

/** The bucket of a distance of so many events (0: the event itself). */
export function distanceBucket(distance: number): number {
  if (distance < exactDistances) return distance;
  return exactDistances + Math.floor(4 * Math.log2(distance / exactDistances));
}

/** Buckets of the distances within a window. */
export const distanceBuckets = (window: number): number => distanceBucket(window - 1) + 1;

/** Buckets of the time between two events: unknown, below a second, and one per doubling to 68 years. */
export const gapBuckets = 33;

/** The bucket of so many seconds between two events; NaN is unknown. */
export function gapBucket(seconds: number): number {
  if (!(seconds >= 1)) return seconds !== seconds ? 0 : 1;
  return seconds >= 0x7fffffff ? gapBuckets - 1 : 1 + 32 - Math.clz32(seconds);
}

/**
 * Events that decide what is made of a history: the resampler reads the last W states, each of which sees W - 1 events further back with
 * every layer. Reading that many is reading all.
 */
export const receptiveField = ({ layers }: Pick<EncoderConfig, 'layers'>, { window }: Band): number =>
  (layers + 1) * (window - 1) + 1;
