import { parseBlock, readDelimited } from './delimited.js';
import type { DelimitedFormat, DelimitedRecord } from './delimited.js';
import { readBlocks } from './text-file.js';
import type { TextBlock } from './text-file.js';

/** How the cells of one column are read. */
export interface CellReader {
  /** Place of the column in a record, from 0. */
  readonly field: number;
  /** For numbers as nearly all are written, `read` is not called: the value is the number over this. Absent for texts. */
  readonly divisor?: number;
  /** The value of a cell that is not empty (an empty one is `undefined`). */
  read(cell: string): unknown;
}

/** Some records, column by column. */
export interface DelimitedColumns {
  length: number;
  /** By reader, then by record. */
  values: unknown[][];
  /** Of each record, the first from 1. */
  lines: number[];
  /** Why a record could not be taken apart, by its index; its values are `undefined`. */
  problems: Map<number, string>;
}

/**
 * The records of a delimited file, column by column: no list and no object per record, no text for a number. Well-formed text is
 * taken apart here; a block with a wrong quote, and a delimiter of several characters, are left to {@link parseBlock}.
 */
export async function* readDelimitedColumns(
  file: string,
  format: DelimitedFormat,
  readers: readonly CellReader[],
): AsyncGenerator<DelimitedColumns> {
  if (format.delimiter.length > 1) {
    for await (const records of readDelimited(file, format)) yield fromRecords(records, readers);
    return;
  }
  const scanner = new Scanner(format, readers);
  let first = format.header;
  for await (const block of readBlocks(file, format.encoding, format.quotes ? format.delimiter : undefined)) {
    const scanned = scanner.scan(block, first);
    if (scanned) yield scanned;
    else {
      const records = parseBlock(block, format);
      yield fromRecords(first ? records.slice(1) : records, readers);
    }
    first = false;
  }
}

/** The slow way to the same columns. */
function fromRecords(records: readonly DelimitedRecord[], readers: readonly CellReader[]): DelimitedColumns {
  const problems = new Map<number, string>();
  records.forEach(({ problem }, i) => {
    if (problem !== undefined) problems.set(i, problem);
  });
  return {
    length: records.length,
    values: readers.map((reader) =>
      records.map(({ fields, problem }) => {
        const cell = problem === undefined ? fields[reader.field] : '';
        return cell === '' ? undefined : readCell(reader, cell);
      }),
    ),
    lines: records.map(({ line }) => line),
    problems,
  };
}

function readCell(reader: CellReader, cell: string): unknown {
  if (reader.divisor !== undefined) {
    const number = plainNumber(cell, 0, cell.length);
    if (number === number) return number / reader.divisor;
  }
  return reader.read(cell);
}

const QUOTE = 34;
const LINE_FEED = 10;
const RETURN = 13;

/** From this length on the engine makes a slice a window on the whole block, which then stays in memory as long as the slice. */
const WINDOW = 13;
/** Long texts that are worth remembering, and how many. */
const REMEMBERED_LENGTH = 64;
const REMEMBERED = 65_536;

class Scanner {
  private readonly delimiter: number;
  /** By field: its readers' places. */
  private readonly slots: number[][];
  private readonly copies = new Map<string, string>();
  private values: unknown[][] = [];

  constructor(
    private readonly format: DelimitedFormat,
    private readonly readers: readonly CellReader[],
  ) {
    this.delimiter = format.delimiter.charCodeAt(0);
    this.slots = Array.from({ length: format.fields }, (_, field) =>
      readers.flatMap((reader, slot) => (reader.field === field ? [slot] : [])),
    );
  }

  /** The records of a block; undefined when a quote stands where none belongs. */
  scan({ text, line: firstLine }: TextBlock, header: boolean): DelimitedColumns | undefined {
    const { delimiter, slots } = this;
    const { fields: expected, quotes } = this.format;
    const quoted = quotes && text.includes('"');
    const end = text.length;
    const values = this.readers.map((): unknown[] => []);
    this.values = values;
    const lines: number[] = [];
    const problems = new Map<number, string>();
    let line = firstLine;
    let skip = header;
    let at = firstLine === 1 && text.charCodeAt(0) === 0xfeff ? 1 : 0;
    while (at < end) {
      const row = lines.length;
      const recordStart = at;
      const recordLine = line;
      let field = 0;
      for (;;) {
        let start = at;
        let stop: number;
        let escaped = false;
        if (quoted && text.charCodeAt(at) === QUOTE) {
          start++;
          stop = text.indexOf('"', start);
          while (stop >= 0 && text.charCodeAt(stop + 1) === QUOTE) {
            escaped = true;
            stop = text.indexOf('"', stop + 2);
          }
          if (stop < 0) return undefined;
          for (let feed = text.indexOf('\n', start); feed >= 0 && feed < stop; feed = text.indexOf('\n', feed + 1)) line++;
          at = stop + 1;
          if (text.charCodeAt(at) === RETURN && text.charCodeAt(at + 1) === LINE_FEED) at++;
          if (at < end && text.charCodeAt(at) !== delimiter && text.charCodeAt(at) !== LINE_FEED) return undefined;
        } else {
          let code = 0;
          while (at < end && (code = text.charCodeAt(at)) !== delimiter && code !== LINE_FEED) at++;
          stop = at < end && code === LINE_FEED && at > start && text.charCodeAt(at - 1) === RETURN ? at - 1 : at;
        }
        if (field < expected && !skip) {
          const places = slots[field];
          for (let k = 0; k < places.length; k++) this.store(places[k], row, text, start, stop, escaped);
        }
        field++;
        if (at >= end || text.charCodeAt(at) === LINE_FEED) break;
        at++;
      }
      const empty = field === 1 && (at === recordStart || (at === recordStart + 1 && text.charCodeAt(recordStart) === RETURN));
      at++;
      line++;
      if (skip || empty) {
        if (empty) for (let slot = 0; slot < values.length; slot++) values[slot].length = row;
        skip = skip && empty;
        continue;
      }
      lines.push(recordLine);
      if (field !== expected) {
        problems.set(row, `it has ${field} field${field === 1 ? '' : 's'} where ${expected} were expected`);
        for (let slot = 0; slot < values.length; slot++) values[slot][row] = undefined;
      }
    }
    return { length: lines.length, values, lines, problems };
  }

  private store(slot: number, row: number, text: string, start: number, stop: number, escaped: boolean): void {
    const values = this.values[slot];
    if (start === stop) {
      values[row] = undefined;
      return;
    }
    const reader = this.readers[slot];
    if (reader.divisor !== undefined && !escaped) {
      const number = plainNumber(text, start, stop);
      if (number === number) {
        values[row] = reader.divisor === 1 ? number : number / reader.divisor;
        return;
      }
    }
    const cell = this.cut(text, start, stop);
    values[row] = reader.read(escaped ? cell.replaceAll('""', '"') : cell);
  }

  private cut(text: string, start: number, stop: number): string {
    const cell = text.slice(start, stop);
    if (stop - start < WINDOW) return cell;
    const known = this.copies.get(cell);
    if (known !== undefined) return known;
    const copy = Buffer.from(cell).toString();
    if (copy.length <= REMEMBERED_LENGTH && this.copies.size < REMEMBERED) this.copies.set(copy, copy);
    return copy;
  }
}

const POWERS = [1, 10, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/**
 * The number between two places of a text, the one `Number` gives, if it is at most 15 digits with or without a sign and a point;
 * NaN for any other text. (So few digits and their power of ten are exact, and one division rounds once.)
 */
export function plainNumber(text: string, start: number, stop: number): number {
  const negative = text.charCodeAt(start) === 45;
  let at = negative ? start + 1 : start;
  if (stop - at > 16) return NaN;
  let digits = 0;
  let point = -1;
  let value = 0;
  for (; at < stop; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit >= 0 && digit <= 9) {
      value = value * 10 + digit;
      digits++;
    } else if (digit === -2 && point < 0) point = digits;
    else return NaN;
  }
  if (digits === 0 || digits > 15) return NaN;
  if (point >= 0) value /= POWERS[digits - point];
  return negative ? -value : value;
}
