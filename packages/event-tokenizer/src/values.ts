import type { TimeUnit } from './schema.js';

/** Reading of raw values. Numbers: NaN stands for missing and Infinity for unreadable, so that hot loops stay on doubles. */

export const UNREADABLE = Infinity;

/** After this second (the end of the year 9999) a time is taken for one in another unit. */
const LAST_SECOND = 253_402_300_799;

const ISO = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/i;

/** The largest float32: columns cannot hold more. */
export const LARGEST = 3.4028234663852886e38;

/** A number that float32 can hold, NaN when missing, {@link UNREADABLE} otherwise. */
export function readNumber(value: unknown): number {
  if (typeof value === 'number') return value > LARGEST || value < -LARGEST ? UNREADABLE : value;
  if (value === undefined || value === null || value === '') return NaN;
  if (typeof value === 'string') {
    const parsed = Number(value);
    // Number reads white space as 0.
    if (parsed === 0 && value.trim() === '') return NaN;
    return parsed <= LARGEST && parsed >= -LARGEST ? parsed : UNREADABLE;
  }
  if (typeof value === 'bigint') return readNumber(Number(value));
  if (typeof value === 'boolean') return value ? 1 : 0;
  return UNREADABLE;
}

/** Unix seconds (or the order), NaN when missing, {@link UNREADABLE} otherwise. */
export function readTime(value: unknown, unit: TimeUnit): number {
  let seconds: number;
  if (typeof value === 'number') {
    if (unit === 'iso') return Number.isNaN(value) ? NaN : UNREADABLE;
    seconds = unit === 'ms' ? value / 1000 : value;
  } else if (value instanceof Date) {
    seconds = unit === 'order' || Number.isNaN(value.getTime()) ? UNREADABLE : value.getTime() / 1000;
  } else if (unit === 'iso') {
    if (value === undefined || value === null || value === '') return NaN;
    seconds = typeof value === 'string' ? readIso(value.trim()) : UNREADABLE;
  } else {
    seconds = typeof value === 'boolean' ? UNREADABLE : readNumber(value);
    if (unit === 'ms') seconds /= 1000;
  }
  if (unit !== 'order' && (seconds > LAST_SECOND || seconds < -LAST_SECOND)) return UNREADABLE;
  return seconds === -Infinity ? UNREADABLE : seconds;
}

function readIso(written: string): number {
  const match = ISO.exec(written);
  if (!match) return UNREADABLE;
  const [, day, minutes = '00:00', seconds = ':00', zone = 'Z'] = match;
  const offset = zone.length === 5 ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone.toUpperCase();
  const parsed = Date.parse(`${day}T${minutes}${seconds}${offset}`);
  if (Number.isNaN(parsed)) return UNREADABLE;
  // Date.parse takes the 30th of February for a day in March.
  const date = Number(day.slice(8));
  if (date > 28 && new Date(`${day}T00:00Z`).getUTCDate() !== date) return UNREADABLE;
  return parsed / 1000;
}

/** Why a number could not be read. */
export function numberReason(value: unknown): string {
  const large =
    (typeof value === 'number' || typeof value === 'string' || typeof value === 'bigint') && Number.isFinite(Number(value));
  return large ? `${show(value)} is beyond the range of a 32-bit float` : `${show(value)} is not a finite number`;
}

/** Why a time could not be read. */
export function timeReason(value: unknown, unit: TimeUnit): string {
  const number = readNumber(value);
  if (unit === 's' && Number.isFinite(number))
    return `${show(value)} as seconds is beyond the year 9999; if these are milliseconds, use unit 'ms'`;
  if (unit === 'ms' && Number.isFinite(number)) return `${show(value)} as milliseconds is beyond the year 9999`;
  if (unit === 'iso') return `${show(value)} is not an ISO 8601 time`;
  return `${show(value)} is not a number`;
}

/** The text of a categorical value; undefined when it has none (an object, a function, an endless number). */
export function categoryText(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
      return Number.isFinite(value) ? String(value) : undefined;
    case 'bigint':
    case 'boolean':
      return String(value);
    default:
      return undefined;
  }
}

/** A value for a message: short, and the kind alone for what has no short form. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return value instanceof Date ? 'a date' : 'an object';
  return typeof value === 'function' || typeof value === 'symbol' ? `a ${typeof value}` : String(value);
}
