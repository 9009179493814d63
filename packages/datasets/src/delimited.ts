import { CsvError, parse } from 'csv-parse/sync';
import type { Options } from 'csv-parse/sync';

import { countLines, readBlocks } from './text-file.js';
import type { TextBlock, TextEncoding } from './text-file.js';

/** One record and where it stands; `problem` is set, and `fields` may be short, when it could not be taken apart. */
export interface DelimitedRecord {
  fields: string[];
  line: number;
  problem?: string;
}

export interface DelimitedFormat {
  delimiter: string;
  encoding: TextEncoding;
  /** False for formats that know no quoting, where a quote is a character like any other. */
  quotes: boolean;
  /** The first record names the columns and is not yielded. */
  header: boolean;
  /** How many fields a record has; more or fewer is a problem. */
  fields: number;
}

/**
 * The records of a delimited file, in lists. csv-parse takes them apart a block of whole records at a time, in its synchronous
 * form, without options that slow it down; the line numbers are counted here.
 */
export async function* readDelimited(file: string, format: DelimitedFormat): AsyncGenerator<DelimitedRecord[]> {
  let first = true;
  for await (const block of readBlocks(file, format.encoding, format.quotes ? format.delimiter : undefined)) {
    const records = parseBlock(block, format);
    if (first && format.header) records.shift();
    first = false;
    yield records;
  }
}

/** The records of some whole lines. */
export function parseBlock(block: TextBlock, format: DelimitedFormat): DelimitedRecord[] {
  const records = format.quotes && block.text.includes('"') ? parseQuoted(block, format) : parsePlain(block, format);
  for (const record of records) {
    if (record.problem === undefined && record.fields.length !== format.fields) {
      record.problem = `it has ${record.fields.length} field${record.fields.length === 1 ? '' : 's'} where ${format.fields} were expected`;
    }
  }
  return records;
}

function parsePlain({ text, line }: TextBlock, { delimiter }: DelimitedFormat): DelimitedRecord[] {
  const options: Options = {
    delimiter,
    quote: null,
    relax_column_count: true,
    bom: line === 1,
    record_delimiter: lineEnds(text),
  };
  const records: DelimitedRecord[] = [];
  for (const fields of parse(text, options) as string[][]) {
    if (fields.length > 1 || fields[0] !== '') records.push({ fields, line });
    line++;
  }
  return records;
}

function parseQuoted({ text, line }: TextBlock, { delimiter }: DelimitedFormat): DelimitedRecord[] {
  const options: Options = { delimiter, relax_column_count: true, bom: line === 1, record_delimiter: lineEnds(text) };
  try {
    let at = line;
    const records: DelimitedRecord[] = [];
    for (const fields of parse(text, options) as string[][]) {
      if (fields.length > 1 || fields[0] !== '') records.push({ fields, line: at });
      // Line breaks that are not at the end of a record stand in its fields.
      at += 1;
      for (const field of fields) if (field.includes('\n')) at += countLines(field);
    }
    return records;
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    return parseEachRecord({ text, line }, delimiter);
  }
}

/** The slow way, for a block with a quote that csv-parse refuses: a line is lost only where one is wrong in it. */
function parseEachRecord({ text, line }: TextBlock, delimiter: string): DelimitedRecord[] {
  const records: DelimitedRecord[] = [];
  for (let at = 0; at < text.length;) {
    const { fields, end, problem } = readRecord(text, at, delimiter);
    if (problem !== undefined) records.push({ fields: [], line, problem });
    else if (fields.length > 1 || fields[0] !== '') records.push({ fields, line });
    line += countLines(text.slice(at, end));
    at = end;
  }
  return records;
}

/** The record that starts at a place of a text, and where the next one starts: by the rule by which blocks are cut. */
function readRecord(text: string, from: number, delimiter: string): { fields: string[]; end: number; problem?: string } {
  const fields: string[] = [];
  for (let at = from; ; at += delimiter.length) {
    const start = at;
    if (text[start] === '"') {
      let close = text.indexOf('"', start + 1);
      while (close >= 0 && text[close + 1] === '"') close = text.indexOf('"', close + 2);
      at = close + 1;
      if (close < 0 || (at !== endOfLine(text, at) && !text.startsWith(delimiter, at)))
        return { fields, end: nextLine(text, start), problem: 'its quotes do not match' };
      fields.push(text.slice(start + 1, close).replaceAll('""', '"'));
    } else {
      const end = endOfLine(text, start);
      const next = text.indexOf(delimiter, start);
      at = next < 0 ? end : Math.min(next, end);
      fields.push(text.slice(start, at));
    }
    if (!text.startsWith(delimiter, at)) return { fields, end: nextLine(text, at) };
  }
}

function nextLine(text: string, at: number): number {
  const feed = text.indexOf('\n', at);
  return feed < 0 ? text.length : feed + 1;
}

function endOfLine(text: string, at: number): number {
  const feed = text.indexOf('\n', at);
  return feed < 0 ? text.length : feed > at && text[feed - 1] === '\r' ? feed - 1 : feed;
}

/** How the records of a block end: in both ways where a file was put together from parts of several systems, which is slower. */
function lineEnds(text: string): string[] {
  if (!text.includes('\r\n')) return ['\n'];
  return /(?<!\r)\n/.test(text) ? ['\r\n', '\n'] : ['\r\n'];
}

/** The fields of one line, such as a header; a line whose quotes do not match is one field. */
export function parseLine(line: string, delimiter: string, quotes = true): string[] {
  const options: Options = { delimiter, relax_column_count: true, bom: true, ...(quotes ? {} : { quote: null }) };
  try {
    const [fields] = parse(line, options) as string[][];
    return fields ?? [];
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const { fields, problem } = readRecord(line, 0, delimiter);
    return problem === undefined ? fields : [line];
  }
}
