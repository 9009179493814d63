import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { createGunzip } from 'node:zlib';

import type { SourceFile } from './dataset.js';
import { BinaryFileError, DamagedFileError, EmptyFileError } from './errors.js';
import { RecordCut } from './record-cut.js';

export type TextEncoding = 'utf-8' | 'latin1';

/** Whole lines of a file. */
export interface TextBlock {
  /** Ends at the end of a line; the last block may lack the line break. */
  text: string;
  /** Number of its first line, from 1. */
  line: number;
}

const blockBytes = 1 << 18;
/** A line longer than this is no log: reading on would fill the memory. */
const longestLine = 1 << 26;

/** The bytes of a file, unpacked when its name ends with .gz. */
async function* readBytes(file: string, limit?: number): AsyncGenerator<Buffer> {
  const raw = createReadStream(file, { highWaterMark: blockBytes });
  if (!file.endsWith('.gz')) {
    let read = 0;
    for await (const chunk of raw as AsyncIterable<Buffer>) {
      yield chunk;
      read += chunk.length;
      if (limit !== undefined && read >= limit) return;
    }
    return;
  }
  const unpacked = createGunzip({ chunkSize: blockBytes });
  raw.on('error', (error) => unpacked.destroy(error));
  raw.pipe(unpacked);
  let read = 0;
  try {
    for await (const chunk of unpacked as AsyncIterable<Buffer>) {
      yield chunk;
      read += chunk.length;
      if (limit !== undefined && read >= limit) return;
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
    throw new DamagedFileError(path.basename(file), `its gzip data cannot be unpacked (${(error as Error).message})`, {
      cause: error,
    });
  } finally {
    raw.destroy();
  }
}

/**
 * The lines of a text file in blocks. Cuts only at line ends; where a `delimiter` is given, only between records, so that a quoted
 * field with line breaks stays in one block. Where the file is UTF-8, a line that is none is read as Latin-1 (Windows-1252).
 *
 * @throws DamagedFileError for broken gzip data or an endless line.
 */
export async function* readBlocks(file: string, encoding: TextEncoding, delimiter?: string): AsyncGenerator<TextBlock> {
  const cut = delimiter === undefined ? undefined : new RecordCut(Buffer.from(delimiter, encoding));
  const decode = (bytes: Buffer) => (encoding === 'latin1' ? windows1252.decode(bytes) : decodeLines(bytes));
  // Blocks are cut before they are decoded: their texts are then whole strings, which are faster to read than slices of others.
  let rest: Buffer = Buffer.alloc(0);
  let waiting: Buffer[] = [];
  let size = 0;
  let line = 1;
  let first = true;
  for await (const read of readBytes(file)) {
    const chunk = first && read.subarray(0, 3).equals(byteOrderMark) ? read.subarray(3) : read;
    first = false;
    waiting.push(chunk);
    size += chunk.length;
    // A long record is joined anew when it has doubled: joined to every chunk it would be copied hundreds of times.
    if (size < 2 * rest.length && size <= longestLine) continue;
    const bytes = size > chunk.length ? Buffer.concat([rest, ...waiting]) : chunk;
    waiting = [];
    let end = cut ? cut.lastEnd(bytes) : bytes.lastIndexOf(LINE_FEED) + 1;
    if (end === 0 && size > longestLine) {
      if (!cut?.giveUp(bytes)) throw new DamagedFileError(path.basename(file), `line ${line} does not end`);
      end = cut.lastEnd(bytes);
    }
    rest = bytes.subarray(end);
    size = rest.length;
    if (end === 0) continue;
    const text = decode(bytes.subarray(0, end));
    yield { text, line };
    line += countLines(text);
  }
  if (size > 0) yield { text: decode(Buffer.concat([rest, ...waiting])), line };
}

const LINE_FEED = 10;
const byteOrderMark = Buffer.from('\uFEFF');
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const windows1252 = new TextDecoder('windows-1252');

function decodeLines(bytes: Buffer): string {
  if (isUtf8(bytes)) return utf8.decode(bytes);
  const lines: string[] = [];
  for (let from = 0; from < bytes.length;) {
    const feed = bytes.indexOf(LINE_FEED, from);
    const line = bytes.subarray(from, feed < 0 ? bytes.length : feed + 1);
    lines.push((isUtf8(line) ? utf8 : windows1252).decode(line));
    from += line.length;
  }
  return lines.join('');
}

export function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}

const magics: readonly [bytes: readonly number[], looksLike: string, advice: string][] = [
  [[0x50, 0x4b, 3, 4], 'a zip archive', 'Unpack it first, or rename it if it is an .xlsx and export that as CSV.'],
  [[0x1f, 0x8b], 'gzip data', 'Let its name end with .gz.'],
  [[0x50, 0x41, 0x52, 0x31], 'Parquet', 'Let its name end with .parquet.'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd data', 'Unpack it first.'],
  [[0x42, 0x5a, 0x68], 'bzip2 data', 'Unpack it first.'],
  [[0x25, 0x50, 0x44, 0x46], 'a PDF', 'Give a text file.'],
  [[0x89, 0x50, 0x4e, 0x47], 'a PNG picture', 'Give a text file.'],
  [[0x7f, 0x45, 0x4c, 0x46], 'a program', 'Give a text file.'],
  [[0xff, 0xfe], 'UTF-16 text', 'Save it as UTF-8.'],
  [[0xfe, 0xff], 'UTF-16 text', 'Save it as UTF-8.'],
];

/**
 * The first lines of a text file, after checks that save a reader from nonsense further on.
 *
 * @throws EmptyFileError when it holds nothing but white space.
 * @throws BinaryFileError when it is not text.
 */
export async function sniffText(file: string): Promise<{ lines: string[]; encoding: TextEncoding }> {
  const name = path.basename(file);
  if (file.endsWith('.gz')) {
    const first = await firstBytes(file);
    if (first.length === 0) throw new EmptyFileError(name);
    if (first[0] !== 0x1f || first[1] !== 0x8b)
      throw new DamagedFileError(name, 'its name ends with .gz but it is not gzip data');
  }
  const chunks: Buffer[] = [];
  for await (const chunk of readBytes(file, 1)) chunks.push(chunk);
  const head = Buffer.concat(chunks);
  for (const [magic, looksLike, advice] of magics) {
    if (head.length >= magic.length && magic.every((byte, i) => head[i] === byte))
      throw new BinaryFileError(name, looksLike, advice);
  }
  let controls = 0;
  for (const byte of head) if (byte < 32 && (byte < 9 || byte > 13) && byte !== 27) controls++;
  if (head.includes(0) || controls > head.length / 100) {
    throw new BinaryFileError(name, 'binary data', 'Give a CSV, JSON lines or Parquet file, named as what it is.');
  }
  const encoding = encodingOf(head);
  const text = new TextDecoder(encoding === 'latin1' ? 'windows-1252' : 'utf-8').decode(head);
  if (text.trim() === '') throw new EmptyFileError(name);
  return { lines: text.split(/\r?\n/), encoding };
}

async function firstBytes(file: string): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(16), 0, 16, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** UTF-8 when the bytes are valid UTF-8 (a character cut at the end is forgiven), Latin-1 (as Windows-1252) otherwise. */
function encodingOf(bytes: Buffer): TextEncoding {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
    return 'utf-8';
  } catch {
    return 'latin1';
  }
}

/** The encoding of a whole file: a title with an accent may come late. */
export async function detectEncoding(file: string): Promise<TextEncoding> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  try {
    for await (const chunk of readBytes(file)) decoder.decode(chunk, { stream: true });
    decoder.decode();
    return 'utf-8';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'latin1';
    throw error;
  }
}

/** Name, size and SHA-256 of a file as stored. The hash is read as a stream; `checksum: false` leaves it out. */
export async function describeFile(
  file: string,
  { checksum = true, signal }: { checksum?: boolean; signal?: AbortSignal } = {},
): Promise<SourceFile> {
  signal?.throwIfAborted();
  const { size } = await stat(file);
  if (!checksum) return { name: path.basename(file), bytes: size, sha256: null };
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal })) hash.update(chunk as Buffer);
  return { name: path.basename(file), bytes: size, sha256: hash.digest('hex') };
}
