/** Reading of bag values (several categories in one row). */

/** Most written bags that a reader remembers: a log repeats few combinations of genres. */
const REMEMBERED = 65_536;

/** The elements of a bag; undefined when the value cannot be one. */
export function bagElements(value: unknown, separator: string): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return value.split(separator).map((part) => part.trim());
  if (value === undefined || value === null) return [];
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return [value];
  return undefined;
}

/** True for a text, and for a list that can never hold anything else than it does now. */
function isFixed(value: unknown): boolean {
  if (typeof value === 'string') return true;
  return Array.isArray(value) && Object.isFrozen(value) && value.every((element) => typeof element === 'string');
}

/** Turns bags into lists of distinct numbers, one look-up for a written bag, or a frozen list of texts, that was seen before. */
export class BagReader {
  private readonly remembered = new Map<unknown, readonly number[]>();

  /**
   * @param separator between the elements of a written bag
   * @param read an element's number: -1 to leave it out, undefined when it has no text
   */
  constructor(
    private readonly separator: string,
    private readonly read: (element: unknown) => number | undefined,
  ) {}

  /** Distinct numbers in order of appearance; undefined when the value, or an element, is not a category. */
  numbers(value: unknown): readonly number[] | undefined {
    if (typeof value !== 'string' && typeof value !== 'object') return this.parse(value);
    const known = this.remembered.get(value);
    if (known !== undefined) return known;
    const parsed = this.parse(value);
    if (parsed !== undefined && this.remembered.size < REMEMBERED && isFixed(value)) this.remembered.set(value, parsed);
    return parsed;
  }

  private parse(value: unknown): readonly number[] | undefined {
    const elements = bagElements(value, this.separator);
    if (elements === undefined) return undefined;
    const numbers: number[] = [];
    for (let i = 0; i < elements.length; i++) {
      const read = this.read(elements[i]);
      if (read === undefined) return undefined;
      if (read >= 0 && !numbers.includes(read)) numbers.push(read);
    }
    return numbers;
  }
}
