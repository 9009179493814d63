import path from 'node:path';

import { parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { open } from 'node:fs/promises';

import { parseBlock, parseLine, readDelimited } from './delimited.js';
import { readDelimitedColumns } from './delimited-columns.js';
import type { CellReader, DelimitedColumns } from './delimited-columns.js';
import { DamagedFileError, EmptyFileError, MissingColumnError } from './errors.js';
import { parseJsonLine, readJsonLines } from './json-lines.js';
import { sniffText } from './text-file.js';

/** A row of any table: values by column name. */
export interface TableRecord {
  value: Record<string, unknown>;
  line: number;
  problem?: string;
}

/** A file of rows, whatever its format. */
export interface Table {
  file: string;
  format: 'csv' | 'jsonl' | 'parquet';
  columns: string[];
  /** Some of the first rows, to guess from. */
  sample: Record<string, unknown>[];
  /** Only these columns are sure to be read. */
  read(columns: readonly string[]): AsyncIterable<TableRecord[]>;
  /** Column by column: faster, where the format has it. */
  readColumns?(readers: readonly CellReader[]): AsyncIterable<DelimitedColumns>;
}

export function tableFormat(file: string): Table['format'] | undefined {
  const match = /\.(csv|tsv|txt|dat|jsonl|ndjson|json|parquet)(\.gz)?$/i.exec(file);
  if (!match) return undefined;
  const extension = match[1].toLowerCase();
  if (extension === 'parquet') return match[2] ? undefined : 'parquet';
  return extension.startsWith('json') || extension === 'ndjson' ? 'jsonl' : 'csv';
}

/** @throws EmptyFileError, BinaryFileError, DamagedFileError, MissingColumnError (a JSON file without objects) */
export async function openTable(file: string, delimiter?: string): Promise<Table> {
  const format = tableFormat(file);
  if (format === 'parquet') return openParquet(file);
  return format === 'jsonl' ? openJsonLines(file) : openDelimited(file, delimiter);
}

async function openDelimited(file: string, given: string | undefined): Promise<Table> {
  const { lines, encoding } = await sniffText(file);
  const delimiter = given ?? guessDelimiter(lines[0]);
  const columns = parseLine(lines[0], delimiter);
  const settings = { delimiter, encoding, quotes: true, header: true, fields: columns.length };
  const rows = lines.slice(1, 201).filter((line) => line !== '');
  if (rows.length === 0) throw new EmptyFileError(path.basename(file));
  checkHeader(path.basename(file), columns);
  const byName = (fields: readonly string[]) => Object.fromEntries(columns.map((column, at) => [column, fields[at]]));
  return {
    file,
    format: 'csv',
    columns,
    // The last row may be cut: what cannot be taken apart is left out of the sample.
    sample: parseBlock({ text: rows.join('\n'), line: 2 }, settings)
      .filter(({ problem }) => problem === undefined)
      .map(({ fields }) => byName(fields)),
    async *read() {
      for await (const records of readDelimited(file, settings)) {
        yield records.map(({ fields, line, problem }) => ({ value: problem === undefined ? byName(fields) : {}, line, problem }));
      }
    },
    readColumns: (readers) => readDelimitedColumns(file, settings, readers),
  };
}

/** A column is asked for by its name: there must be one of each, so one without a name at most. */
function checkHeader(file: string, columns: readonly string[]): void {
  const twice = columns.find((column, at) => columns.indexOf(column) !== at);
  if (twice === undefined) return;
  throw twice === ''
    ? new DamagedFileError(
        file,
        'its first line leaves columns without a name',
        {},
        'Name them, or take delimiters at its end away.',
      )
    : new DamagedFileError(file, `its first line names the column "${twice}" twice`, {}, 'Rename one of them.');
}

function guessDelimiter(header: string): string {
  const count = (delimiter: string) => header.split(delimiter).length;
  return [',', '\t', ';', '|', '::'].reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best), ',');
}

async function openJsonLines(file: string): Promise<Table> {
  const { lines, encoding } = await sniffText(file);
  const sample = lines
    .slice(0, 200)
    .filter((line) => line.trim() !== '')
    .map((line, at) => parseJsonLine(line, at + 1))
    .filter(({ problem }) => problem === undefined)
    .map(({ value }) => value);
  if (sample.length === 0) {
    const problem = lines[0].trimStart().startsWith('[') ? 'it is one JSON array' : 'no line of its beginning is a JSON object';
    throw new DamagedFileError(path.basename(file), problem, {}, 'Write one object per line.');
  }
  const columns = [...new Set(sample.flatMap(Object.keys))];
  return { file, format: 'jsonl', columns, sample, read: () => readJsonLines(file, encoding) };
}

async function openParquet(file: string): Promise<Table> {
  const name = path.basename(file);
  const buffer = await parquetBuffer(file);
  if (buffer.byteLength === 0) throw new EmptyFileError(name);
  const metadata = await guarded(name, () => parquetMetadataAsync(buffer));
  if (metadata.row_groups.length === 0 || Number(metadata.num_rows) === 0) throw new EmptyFileError(name);
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  return {
    file,
    format: 'parquet',
    columns,
    sample: await readRows(name, buffer, metadata, columns, 0, Math.min(200, Number(metadata.num_rows))),
    async *read(wanted) {
      // One row group at a time: the unit in which Parquet is written, and the least that can be unpacked.
      let from = 0;
      for (const group of metadata.row_groups) {
        const to = from + Number(group.num_rows);
        const rows = await readRows(name, buffer, metadata, wanted, from, to);
        const first = from;
        yield rows.map((value, at) => ({ value, line: first + at + 1 }));
        from = to;
      }
    },
  };
}

function readRows(
  name: string,
  file: AsyncBuffer,
  metadata: FileMetaData,
  wanted: readonly string[],
  rowStart: number,
  rowEnd: number,
) {
  const columns = [...new Set(wanted)];
  return guarded(name, () => parquetReadObjects({ file, metadata, columns, rowStart, rowEnd, compressors })) as Promise<
    Record<string, unknown>[]
  >;
}

async function guarded<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== undefined) throw error;
    throw new DamagedFileError(name, `it cannot be read as Parquet (${(error as Error).message})`, { cause: error });
  }
}

/** Opens the file for each slice, so that an iteration that is broken off leaves nothing open. */
async function parquetBuffer(file: string): Promise<AsyncBuffer> {
  const handle = await open(file);
  const { size } = await handle.stat().finally(() => handle.close());
  return {
    byteLength: size,
    async slice(start, end = size) {
      const handle = await open(file);
      try {
        const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
        let filled = 0;
        while (filled < bytes.length) {
          const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, start + filled);
          if (bytesRead === 0) throw new Error('the file became shorter');
          filled += bytesRead;
        }
        return bytes.buffer;
      } finally {
        await handle.close();
      }
    },
  };
}

/** The tables of one data set must agree on the columns that are read. @throws MissingColumnError */
export function checkShards(tables: readonly Table[], columns: Readonly<Record<string, string>>): void {
  for (const { file, format, columns: present } of tables.slice(1)) {
    // A key that is rare may be absent from the first lines of JSON; in the other formats the columns are known.
    if (format === 'jsonl') continue;
    for (const [role, column] of Object.entries(columns)) {
      if (!present.includes(column)) throw new MissingColumnError(path.basename(file), role, column, present);
    }
  }
}
