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

/** Turns bags into what is kept of them, one look-up for a written bag, or a frozen list of texts, that was seen before. */
export class BagReader<Kept> {
  private readonly remembered = new Map<unknown, Kept>();

  /**
   * @param separator between the elements of a written bag
   * @param number an element's number: -1 to leave it out, undefined when it has no text
   * @param keep what becomes of a bag, given as distinct numbers in order of appearance
   */
  constructor(
    private readonly separator: string,
    private readonly number: (element: unknown) => number | undefined,
    private readonly keep: (numbers: readonly number[]) => Kept,
  ) {}

  /** What was kept of the bag; undefined when the value, or an element, is not a category. */
  read(value: unknown): Kept | undefined {
    const known = this.remembered.get(value);
    if (known !== undefined) return known;
    const numbers = this.parse(value);
    if (numbers === undefined) return undefined;
    const kept = this.keep(numbers);
    if (this.remembered.size < REMEMBERED && isFixed(value)) this.remembered.set(value, kept);
    return kept;
  }

  /** Forgets the bags that were seen. */
  forget(): void {
    this.remembered.clear();
  }

  private parse(value: unknown): readonly number[] | undefined {
    const elements = bagElements(value, this.separator);
    if (elements === undefined) return undefined;
    const numbers: number[] = [];
    for (let i = 0; i < elements.length; i++) {
      const read = this.number(elements[i]);
      if (read === undefined) return undefined;
      if (read >= 0 && !numbers.includes(read)) numbers.push(read);
    }
    return numbers;
  }
}
