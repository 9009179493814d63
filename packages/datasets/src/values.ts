/** A number where the text is one; `undefined` where there is none; else the text itself, so that whoever refuses it can quote it. */
export function numberOrRaw(text: string): number | string | undefined {
  if (text === '') return undefined;
  const value = Number(text);
  return Number.isFinite(value) && text.trim() !== '' ? value : text;
}

/** An id as text; `undefined` for nothing, and for an object or a list, which cannot be an id. */
export function idOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  return undefined;
}

/** Text with something in it, or `undefined`. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** All texts in a value that may be a text, a list, or a list of lists, once each. */
export function textsOf(value: unknown): string[] {
  const found = new Set<string>();
  const collect = (part: unknown): void => {
    if (Array.isArray(part)) part.forEach(collect);
    else if (typeof part === 'string' && part !== '') found.add(part);
  };
  collect(value);
  return [...found];
}

/** The categories in a text of them, or in a list. */
export function categoriesOf(cell: unknown, separator: string): string[] {
  return textsOf(typeof cell === 'string' ? cell.split(separator).map((part) => part.trim()) : cell);
}

/** How times are written in a file; all become seconds. */
export const sourceTimeUnits = ['s', 'ms', 'us', 'iso', 'order'] as const;
export type SourceTimeUnit = (typeof sourceTimeUnits)[number];

export const perSecond = { s: 1, ms: 1e3, us: 1e6, order: 1 };

/** Seconds since 1970 (or the order), `undefined` for nothing, and the value itself where it is no time. */
export function secondsOf(value: unknown, unit: SourceTimeUnit): unknown {
  if (value === undefined || value === null || value === '') return undefined;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : value.getTime() / 1000;
  if (unit === 'iso') return typeof value === 'string' ? (isoSeconds(value) ?? value) : value;
  const number = typeof value === 'number' ? value : typeof value === 'bigint' || typeof value === 'string' ? Number(value) : NaN;
  return Number.isFinite(number) ? number / perSecond[unit] : value;
}

function isoSeconds(text: string): number | undefined {
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(?: ?(Z|UTC|[+-]\d\d:?\d\d))?)?$/.exec(text.trim());
  if (!match) return undefined;
  const [, date, clock = '00:00:00', zone = 'Z'] = match;
  // A time without a zone is UTC, so that the machine that reads it makes no difference.
  const milliseconds = Date.parse(`${date}T${clock}${zone === 'UTC' ? 'Z' : zone}`);
  if (Number.isNaN(milliseconds)) return undefined;
  // Date.parse takes the 30th of February for a day in March.
  return new Date(`${date}T00:00Z`).getUTCDate() === Number(date.slice(8)) ? milliseconds / 1000 : undefined;
}

/** The unit that some values of a time column are in, or `undefined` when they are no times. */
export function guessTimeUnit(values: readonly unknown[]): SourceTimeUnit | undefined {
  const given = values.filter((value) => value !== undefined && value !== null && value !== '');
  if (given.length === 0) return undefined;
  // One bad row must not decide what the others are: the majority does, and the median of the numbers.
  const dates = given.filter((value) => value instanceof Date || (typeof value === 'string' && isoSeconds(value) !== undefined));
  const numbers = given.map((value) => (value instanceof Date ? NaN : Number(value)));
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  if (dates.length > sorted.length) return 'iso';
  if (sorted.length === 0) return undefined;
  const middle = sorted[sorted.length >> 1];
  return middle >= 1e14 ? 'us' : middle >= 1e11 ? 'ms' : middle >= 1e8 ? 's' : 'order';
}
