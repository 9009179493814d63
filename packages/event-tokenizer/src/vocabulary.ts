import { Int32List } from './growing.js';
import { FIRST_VALUE_ID, MISSING_ID, SPECIAL_NAMES, UNKNOWN_ID } from './special-ids.js';
import { categoryText } from './values.js';

/** Place of a missing value while fitting. */
export const MISSING_PLACE = -1;
/** Place of a value that has no text. */
export const UNREADABLE_PLACE = -2;
/** Place of a text that is the name of a special id: it never becomes a value, so that decoded events encode to the same ids. */
export const RESERVED_PLACE = -3;

const [PADDING_NAME, MASK_NAME, UNKNOWN_NAME, MISSING_NAME] = SPECIAL_NAMES;

/** Counts values. `lookup` maps a raw value (number 7 and text "7" alike) to its place, so that a value seen before costs one look-up. */
export class VocabularyCounter {
  readonly lookup = new Map<unknown, number>([
    [undefined, MISSING_PLACE],
    [null, MISSING_PLACE],
    ['', MISSING_PLACE],
    [NaN, MISSING_PLACE],
    [MISSING_NAME, MISSING_PLACE],
    [UNKNOWN_NAME, RESERVED_PLACE],
    [PADDING_NAME, RESERVED_PLACE],
    [MASK_NAME, RESERVED_PLACE],
  ]);
  readonly values: string[] = [];
  readonly counts = new Int32List();

  /** The place of a value that `lookup` does not have. */
  add(raw: unknown): number {
    const value = categoryText(raw);
    if (value === undefined) return UNREADABLE_PLACE;
    let place = this.lookup.get(value);
    if (place === undefined) {
      place = this.values.length;
      this.values.push(value);
      this.counts.push(0);
      this.lookup.set(value, place);
    }
    if (typeof raw !== 'bigint') this.lookup.set(raw, place);
    return place;
  }

  /** Values seen at least `minCount` times (and at least once), the most frequent first, ties by first appearance, at most `maxSize`. */
  select(minCount: number, maxSize: number): string[] {
    const counts = this.counts.data;
    const places: number[] = [];
    for (let place = 0; place < this.values.length; place++) if (counts[place] >= Math.max(1, minCount)) places.push(place);
    places.sort((a, b) => counts[b] - counts[a] || a - b);
    return places.slice(0, maxSize).map((place) => this.values[place]);
  }
}

/** Values with ids from {@link FIRST_VALUE_ID} on. */
export class Vocabulary {
  /** Raw value to id; holds the missing values too. Only known values are ever added. */
  readonly lookup: Map<unknown, number>;
  /** Index = id. */
  readonly names: readonly string[];

  constructor(readonly values: readonly string[]) {
    this.lookup = new Map<unknown, number>([
      [undefined, MISSING_ID],
      [null, MISSING_ID],
      ['', MISSING_ID],
      [NaN, MISSING_ID],
      [MISSING_NAME, MISSING_ID],
    ]);
    values.forEach((value, place) => this.lookup.set(value, FIRST_VALUE_ID + place));
    this.names = Object.freeze([...SPECIAL_NAMES, ...values]);
  }

  /** The id of a value that `lookup` does not have yet: a known one in another form, {@link UNKNOWN_ID}, or undefined when it has no text. */
  find(raw: unknown): number | undefined {
    const value = categoryText(raw);
    if (value === undefined) return undefined;
    const id = this.lookup.get(value);
    if (id === undefined) return UNKNOWN_ID;
    if (typeof raw !== 'bigint') this.lookup.set(raw, id);
    return id;
  }
}
