import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { blockFormatNames, blockFormats, otherFormats } from './block-formats.js';
import type { BlockFormat } from './block-formats.js';
import { GgufError } from './gguf-error.js';

// A header that claims more than any real one has is refused before memory is taken for it.
const maximumHeaderBytes = 256 * 2 ** 20;
const maximumEntries = 65_536;
const maximumArrayLength = 4_194_304;
const firstRead = 4 * 2 ** 20;

export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

/** One tensor as the header describes it, checked against the file: `begin` is its byte offset in the whole file. */
export interface GgufTensorInfo {
  readonly name: string;
  /** Rows first, as `[out, in]`: the reverse of the order in the file. */
  readonly shape: readonly number[];
  readonly format: BlockFormat;
  readonly begin: number;
  readonly bytes: number;
}

/** A checked header: what the file says about itself, and which tensors it holds where. */
export interface GgufHeader {
  readonly file: string;
  readonly fileBytes: number;
  /** Milliseconds; the file is the same one later if it still has this time and size. */
  readonly modified: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensorInfo>;
}

export interface GgufHeaderOptions {
  /** False leaves out the lists of the tokenizer (`tokenizer.ggml.tokens` and the like), most of a header's memory. Default true. */
  readonly wordLists?: boolean;
}

/**
 * Reads the header of a GGUF file (versions 2 and 3, little-endian) and checks it: every tensor lies inside the file, none overlaps
 * another, and each is of a format that is read. Only the header's bytes are read. Throws a `GgufError`.
 */
export async function readGgufHeader(file: string, { wordLists = true }: GgufHeaderOptions = {}): Promise<GgufHeader> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const detail = missing ? 'there is no such file.' : `could not be opened (${(error as Error).message}).`;
    throw new GgufError('unreadable', file, detail, { cause: error });
  }
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new GgufError('unreadable', file, 'is not a file.');
    for (let size = Math.min(firstRead, stats.size); ; size = Math.min(4 * size, stats.size, maximumHeaderBytes)) {
      const bytes = await readBytes(handle, size, file);
      const parsed = parseHeader(bytes, stats.size, file, wordLists);
      if (parsed !== undefined) return { file, fileBytes: stats.size, modified: stats.mtimeMs, ...parsed };
      if (size === stats.size)
        throw new GgufError('truncated', file, `ends within its header, after ${stats.size} bytes. Copy or download it again.`);
      if (size === maximumHeaderBytes)
        throw new GgufError(
          'bad-header',
          file,
          `has a header of more than ${maximumHeaderBytes} bytes. Is this a language model?`,
        );
    }
  } finally {
    await handle.close();
  }
}

async function readBytes(handle: FileHandle, length: number, file: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await handle.read(bytes, at, length - at, at);
    if (bytesRead === 0) throw new GgufError('changed', file, 'became shorter while it was read.');
    at += bytesRead;
  }
  return bytes;
}

/** Thrown inside `parseHeader` when the bytes read so far end before the header does. */
class NeedsMore extends Error {}

/** The header, or undefined where it goes on beyond `bytes`. */
function parseHeader(
  bytes: Uint8Array,
  fileBytes: number,
  file: string,
  wordLists: boolean,
): Pick<GgufHeader, 'metadata' | 'tensors'> | undefined {
  try {
    return new HeaderParser(bytes, fileBytes, file, wordLists).parse();
  } catch (error) {
    if (error instanceof NeedsMore) return undefined;
    throw error;
  }
}

const valueTypes = ['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'f32', 'bool', 'string', 'array', 'u64', 'i64', 'f64'] as const;
type ValueType = (typeof valueTypes)[number];
const smallestBytes: Readonly<Record<ValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

class HeaderParser {
  readonly #view: DataView;
  readonly #text = new TextDecoder();
  #at = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly fileBytes: number,
    private readonly file: string,
    private readonly wordLists: boolean,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  parse(): Pick<GgufHeader, 'metadata' | 'tensors'> {
    if (this.fileBytes < 4 || this.#text.decode(this.bytes.subarray(0, 4)) !== 'GGUF')
      throw new GgufError('not-gguf', this.file, 'does not begin with GGUF, so it is no GGUF file.');
    this.#take(4);
    const version = this.#u32();
    if (version !== 2 && version !== 3)
      throw new GgufError('unsupported', this.file, `is GGUF version ${version} (or big-endian); versions 2 and 3 are read.`);
    const tensorCount = this.#count(maximumEntries, 'tensors');
    const entryCount = this.#count(maximumEntries, 'entries of metadata');
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < entryCount; i++) {
      const key = this.#string();
      metadata.set(key, this.#value(this.#u32(), key, 0));
    }
    const claims = Array.from({ length: tensorCount }, () => this.#claim());
    return { metadata, tensors: this.#place(claims, this.#alignment(metadata)) };
  }

  /** Moves past `count` bytes and gives where they begin. */
  #take(count: number): number {
    const begin = this.#at;
    if (begin + count > this.fileBytes)
      throw new GgufError(
        'truncated',
        this.file,
        `its header claims ${count} bytes at byte ${begin}, but the file has ${this.fileBytes}. It may be cut short; copy or download it again.`,
      );
    if (begin + count > this.bytes.byteLength) throw new NeedsMore();
    this.#at += count;
    return begin;
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  #count(limit: number, what: string): number {
    const count = this.#u64();
    if (count > BigInt(limit)) throw new GgufError('bad-header', this.file, `claims ${count} ${what}; the limit is ${limit}.`);
    return Number(count);
  }

  #length(): number {
    const length = this.#u64();
    return length > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(length);
  }

  #string(): string {
    const begin = this.#take(this.#length());
    return this.#text.decode(this.bytes.subarray(begin, this.#at));
  }

  #value(code: number, key: string, depth: number): GgufValue {
    const type = valueTypes.at(code);
    if (type === undefined || depth > 2)
      throw new GgufError('bad-header', this.file, `has a value of unknown type ${code}.`, { key });
    if (type === 'string') return this.#string();
    if (type === 'array') return this.#array(key, depth);
    const at = this.#take(smallestBytes[type]);
    const view = this.#view;
    switch (type) {
      case 'u8':
        return view.getUint8(at);
      case 'i8':
        return view.getInt8(at);
      case 'u16':
        return view.getUint16(at, true);
      case 'i16':
        return view.getInt16(at, true);
      case 'u32':
        return view.getUint32(at, true);
      case 'i32':
        return view.getInt32(at, true);
      case 'f32':
        return view.getFloat32(at, true);
      case 'bool':
        return view.getUint8(at) !== 0;
      case 'u64':
        return narrow(view.getBigUint64(at, true));
      case 'i64':
        return narrow(view.getBigInt64(at, true));
      case 'f64':
        return view.getFloat64(at, true);
      default:
        return type satisfies never;
    }
  }

  #array(key: string, depth: number): GgufValue[] {
    const code = this.#u32();
    const length = this.#count(maximumArrayLength, `elements of ${key}`);
    const type = valueTypes.at(code);
    if (type !== undefined && this.#at + length * smallestBytes[type] > this.fileBytes)
      throw new GgufError(
        'truncated',
        this.file,
        `claims ${length} elements, more than the file can hold. It may be cut short.`,
        { key },
      );
    if (this.wordLists || !key.startsWith('tokenizer.ggml.'))
      return Array.from({ length }, () => this.#value(code, key, depth + 1));
    for (let i = 0; i < length; i++) {
      if (type === 'string') this.#take(this.#length());
      else this.#value(code, key, depth + 1);
    }
    return [];
  }

  #alignment(metadata: ReadonlyMap<string, GgufValue>): number {
    const key = 'general.alignment';
    const alignment = metadata.get(key) ?? 32;
    if (typeof alignment === 'number' && alignment >= 1 && alignment <= 65_536 && Number.isInteger(Math.log2(alignment)))
      return alignment;
    throw new GgufError('bad-header', this.file, `is ${String(alignment)}; it must be a power of two up to 65536.`, { key });
  }

  #claim(): Claim {
    const name = this.#string();
    const rank = this.#u32();
    if (rank < 1 || rank > 4)
      throw new GgufError('bad-tensor', this.file, `claims ${rank} dimensions; there are one to four.`, { tensor: name });
    const dimensions = Array.from({ length: rank }, () => this.#u64());
    return { name, dimensions, format: this.#u32(), offset: this.#u64() };
  }

  /** Finds each tensor's bytes, and that they are its own. */
  #place(claims: readonly Claim[], alignment: number): Map<string, GgufTensorInfo> {
    const { file, fileBytes } = this;
    const dataBegin = Math.ceil(this.#at / alignment) * alignment;
    const tensors = new Map<string, GgufTensorInfo>();
    for (const { name, dimensions, format: code, offset } of claims) {
      const fail = (detail: string) => new GgufError('bad-tensor', file, detail, { tensor: name });
      const format = blockFormats.get(code);
      if (format === undefined) {
        const what = otherFormats.get(code) ?? `of an unknown format (${code})`;
        const detail = `its values are ${what}; formats that are read are ${blockFormatNames.join(', ')}.`;
        throw new GgufError('unknown-quantization', file, detail, { tensor: name });
      }
      const shown = `[${[...dimensions].reverse().join(', ')}]`;
      if (dimensions[0] % BigInt(format.values) !== 0n)
        throw fail(`its rows have ${dimensions[0]} values, and ${format.name} has blocks of ${format.values}.`);
      const count = dimensions.reduce((product, size) => product * size, 1n);
      const bytes = (count / BigInt(format.values)) * BigInt(format.bytes);
      if (bytes > BigInt(fileBytes))
        throw fail(`shape ${shown} in ${format.name} would take ${bytes} bytes, more than the whole file (${fileBytes}).`);
      if (count === 0n) throw fail(`has the shape ${shown}, which holds no values.`);
      if (offset % BigInt(alignment) !== 0n) throw fail(`begins at ${offset}, which is not a multiple of ${alignment}.`);
      const end = BigInt(dataBegin) + offset + bytes;
      if (end > BigInt(fileBytes))
        throw new GgufError(
          'truncated',
          file,
          `lies at bytes ${BigInt(dataBegin) + offset} to ${end}, but the file has ${fileBytes}. It may be cut short; copy or download it again.`,
          { tensor: name },
        );
      if (tensors.has(name)) throw fail('there are two tensors of this name.');
      const shape = dimensions.map(Number).reverse();
      tensors.set(name, { name, shape, format, begin: dataBegin + Number(offset), bytes: Number(bytes) });
    }
    let before: GgufTensorInfo | undefined;
    for (const tensor of [...tensors.values()].sort((a, b) => a.begin - b.begin)) {
      if (before !== undefined && tensor.begin < before.begin + before.bytes)
        throw new GgufError('overlapping-tensors', file, `its bytes overlap those of '${before.name}'.`, { tensor: tensor.name });
      before = tensor;
    }
    return tensors;
  }
}

interface Claim {
  readonly name: string;
  /** The fastest first. */
  readonly dimensions: readonly bigint[];
  readonly format: number;
  readonly offset: bigint;
}

const narrow = (value: bigint): number | bigint => (BigInt.asIntN(53, value) === value ? Number(value) : value);
