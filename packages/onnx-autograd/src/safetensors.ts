import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { writeFileAtomically } from './atomic-file.js';
import { bytesPerElement, elementCount, toFloat32 } from './host-tensor.js';
import type { DType, HostTensor, TypedArray } from './host-tensor.js';

/** Headers above this size are refused before anything of that size is allocated. */
const maximumHeaderBytes = 100_000_000;
const readSize = 1 << 28;

const dtypeOfName: Readonly<Record<string, DType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};
const nameOfDtype = Object.fromEntries(Object.entries(dtypeOfName).map(([name, dtype]) => [dtype, name])) as Record<
  DType,
  string
>;

const marker = Symbol.for('@user-llm/onnx-autograd/SafetensorsError');

/** What is wrong with a safetensors file; the error's message says it in words. */
export type SafetensorsProblem =
  'unreadable' | 'unwritable' | 'bad-header' | 'bad-tensor' | 'missing-tensor' | 'unsupported-dtype';

/** A safetensors file could not be read or written. `file` and, where one is at fault, `tensor` say where. */
export class SafetensorsError extends Error {
  readonly problem: SafetensorsProblem;
  readonly file: string;
  readonly tensor?: string;
  readonly [marker] = true;

  constructor(problem: SafetensorsProblem, file: string, detail: string, options: { tensor?: string; cause?: unknown } = {}) {
    const where = options.tensor === undefined ? file : `${file}, tensor '${options.tensor}'`;
    super(`${where}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SafetensorsError';
    this.problem = problem;
    this.file = file;
    this.tensor = options.tensor;
  }

  static isInstance(error: unknown): error is SafetensorsError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}

/** Tensors by name, and the file's free-form string metadata. */
export interface Safetensors {
  readonly tensors: Map<string, HostTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** One tensor as the header describes it; `begin` and `end` are byte offsets in the whole file. */
export interface SafetensorsEntry {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** The checked header of a file: what it holds and where, without the values. */
export interface SafetensorsHeader {
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ReadSafetensorsOptions {
  /** Reads only these tensors; a name that the file does not hold is an error. Default: all of them. */
  readonly names?: Iterable<string>;
  /** Converts float16 and bfloat16 tensors to float32 while reading. Default: false, they are kept as raw bits. */
  readonly asFloat32?: boolean;
}

/** Reads the header alone, for a list of names and shapes without the cost of the values. */
export async function readSafetensorsHeader(file: string): Promise<SafetensorsHeader> {
  return withFile(file, async (handle, size) => readHeader(handle, size, file));
}

/**
 * Reads a safetensors file. Only the bytes of the tensors asked for are read. Every offset, shape and dtype is checked against the
 * file's real size before memory is taken for it.
 *
 * @throws SafetensorsError: its `problem` is `unreadable`, `bad-header`, `bad-tensor`, `unsupported-dtype`, or `missing-tensor` for a
 *   name of `names` that the file does not hold
 */
export async function readSafetensors(file: string, options: ReadSafetensorsOptions = {}): Promise<Safetensors> {
  return withFile(file, async (handle, size) => {
    const header = await readHeader(handle, size, file);
    const tensors = new Map<string, HostTensor>();
    for (const name of options.names ?? header.entries.keys()) {
      const entry = header.entries.get(name);
      if (entry === undefined) {
        throw new SafetensorsError('missing-tensor', file, `the file holds ${header.entries.size} tensors, none of this name.`, {
          tensor: name,
        });
      }
      const bytes = await readExactly(handle, entry.begin, entry.end - entry.begin, file, name);
      tensors.set(name, toTensor(entry, bytes, options.asFloat32 ?? false));
    }
    return { tensors, metadata: header.metadata };
  });
}

/** Reads safetensors from memory; `source` names the bytes in errors. Values are copied, so the bytes may be reused. */
export function decodeSafetensors(
  bytes: Uint8Array,
  source = 'safetensors bytes',
  options: ReadSafetensorsOptions = {},
): Safetensors {
  const headerBytes = headerSize(bytes.subarray(0, 8), bytes.byteLength, source);
  const header = parseHeader(bytes.subarray(8, 8 + headerBytes), bytes.byteLength, source);
  const tensors = new Map<string, HostTensor>();
  for (const name of options.names ?? header.entries.keys()) {
    const entry = header.entries.get(name);
    if (entry === undefined) {
      throw new SafetensorsError('missing-tensor', source, `the bytes hold ${header.entries.size} tensors, none of this name.`, {
        tensor: name,
      });
    }
    // Not bytes.slice: that of a Buffer is a view into its pool.
    tensors.set(
      name,
      toTensor(entry, Uint8Array.prototype.slice.call(bytes, entry.begin, entry.end), options.asFloat32 ?? false),
    );
  }
  return { tensors, metadata: header.metadata };
}

/** Tensors as the bytes of a safetensors file: wide elements first, then by name, so that equal content gives equal bytes. */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, HostTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { size, chunks } = layOut(tensors, metadata, 'safetensors bytes');
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks()) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

/**
 * The same bytes one after the other, for files of any size: the header, then the values of each tensor, which are asked for only then.
 * The pieces are views of the tensors' arrays. Throws a `SafetensorsError` for a tensor that cannot be written: at once, or where its values
 * are read from somewhere, when they are asked for.
 */
export function safetensorsChunks(
  tensors: Iterable<readonly [string, HostTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Iterable<Uint8Array> {
  return layOut(tensors, metadata, 'safetensors bytes').chunks();
}

/** Writes a safetensors file atomically: after a crash or a full disk the path holds the old file, or none, never half of one. */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<readonly [string, HostTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { chunks } = layOut(tensors, metadata, file);
  try {
    await writeFileAtomically(file, chunks());
  } catch (error) {
    if (SafetensorsError.isInstance(error)) throw error;
    throw new SafetensorsError(
      'unwritable',
      file,
      `could not be written (${(error as Error).message}). No partial file was left.`,
      { cause: error },
    );
  }
}

function layOut(
  tensors: Iterable<readonly [string, HostTensor]>,
  metadata: Readonly<Record<string, string>>,
  file: string,
): { readonly size: number; chunks(): Generator<Uint8Array> } {
  const sorted = [...tensors].sort(
    ([a, x], [b, y]) => bytesPerElement[y.dtype] - bytesPerElement[x.dtype] || (a < b ? -1 : a > b ? 1 : 0),
  );
  const check = (name: string, { shape, dtype }: HostTensor, data: TypedArray): void => {
    if (data.BYTES_PER_ELEMENT === bytesPerElement[dtype] && data.length === elementCount(shape)) return;
    const wanted = `${elementCount(shape)} elements of ${bytesPerElement[dtype]} bytes`;
    const detail = `shape [${shape.join(', ')}] of dtype ${dtype} needs ${wanted}, but the array has ${data.length} of ${data.BYTES_PER_ELEMENT}.`;
    throw new SafetensorsError('bad-tensor', file, detail, { tensor: name });
  };
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set('__metadata__', metadata);
  let offset = 0;
  for (const [name, tensor] of sorted) {
    if (name === '__metadata__' || header.has(name)) {
      throw new SafetensorsError('bad-tensor', file, 'a tensor name must be unique and not __metadata__.', { tensor: name });
    }
    const { shape, dtype } = tensor;
    // Values that are read when they are asked for are asked for when they are written.
    if (Object.getOwnPropertyDescriptor(tensor, 'data')?.value !== undefined) check(name, tensor, tensor.data);
    const end = offset + elementCount(shape) * bytesPerElement[dtype];
    header.set(name, { dtype: nameOfDtype[dtype], shape, data_offsets: [offset, end] });
    offset = end;
  }
  // Spaces pad the header so that the values start at a multiple of eight bytes.
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const head = new Uint8Array(8 + Math.ceil(json.byteLength / 8) * 8).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(head.byteLength - 8), true);
  head.set(json, 8);
  return {
    size: head.byteLength + offset,
    *chunks() {
      yield head;
      for (const [name, tensor] of sorted) {
        const { data } = tensor;
        check(name, tensor, data);
        yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      }
    },
  };
}

async function withFile<T>(file: string, use: (handle: FileHandle, size: number) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SafetensorsError(
      'unreadable',
      file,
      missing ? 'there is no such file.' : `could not be opened (${(error as Error).message}).`,
      {
        cause: error,
      },
    );
  }
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new SafetensorsError('unreadable', file, 'is not a file.');
    return await use(handle, stats.size);
  } finally {
    await handle.close();
  }
}

async function readHeader(handle: FileHandle, size: number, file: string): Promise<SafetensorsHeader> {
  const first = await readExactly(handle, 0, Math.min(8, size), file);
  const headerBytes = headerSize(first, size, file);
  return parseHeader(await readExactly(handle, 8, headerBytes, file), size, file);
}

async function readExactly(
  handle: FileHandle,
  position: number,
  length: number,
  file: string,
  tensor?: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let start = 0; start < length;) {
    const { bytesRead } = await handle.read(bytes, start, Math.min(readSize, length - start), position + start);
    if (bytesRead === 0) throw new SafetensorsError('bad-tensor', file, 'the file became shorter while it was read.', { tensor });
    start += bytesRead;
  }
  return bytes;
}

function headerSize(first: Uint8Array, fileSize: number, file: string): number {
  if (first.byteLength < 8)
    throw new SafetensorsError('bad-header', file, `has ${fileSize} bytes; a safetensors file has at least 10.`);
  const size = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (size > BigInt(maximumHeaderBytes)) {
    throw new SafetensorsError(
      'bad-header',
      file,
      `claims a header of ${size} bytes, above the limit of ${maximumHeaderBytes}. Is this a safetensors file?`,
    );
  }
  if (Number(size) + 8 > fileSize) {
    throw new SafetensorsError(
      'bad-header',
      file,
      `claims a header of ${size} bytes, but the file has ${fileSize}. It may be cut short.`,
    );
  }
  return Number(size);
}

function parseHeader(bytes: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new SafetensorsError('bad-header', file, 'the header is not JSON. Is this a safetensors file?', { cause: error });
  }
  if (!isRecord(parsed)) throw new SafetensorsError('bad-header', file, 'the header is not a JSON object.');
  const start = 8 + bytes.byteLength;
  const entries = new Map<string, SafetensorsEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '__metadata__') metadata = parseMetadata(value, file);
    else entries.set(name, parseEntry(value, start, fileSize, file, name));
  }
  // The format has no gaps and no overlaps, so in order of offsets each tensor starts where the one before it ends.
  let end = start;
  for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== end) {
      const what = entry.begin < end ? 'overlaps the tensor before it' : 'leaves a gap after the tensor before it';
      throw new SafetensorsError('bad-tensor', file, `${what} (bytes ${entry.begin} to ${entry.end}).`, { tensor: name });
    }
    end = entry.end;
  }
  if (end !== fileSize)
    throw new SafetensorsError('bad-header', file, `has ${fileSize} bytes, but its tensors end at byte ${end}.`);
  return { entries, metadata };
}

function parseMetadata(value: unknown, file: string): Record<string, string> {
  if (!isRecord(value) || Object.values(value).some((text) => typeof text !== 'string')) {
    throw new SafetensorsError('bad-header', file, '__metadata__ must map names to strings.');
  }
  return value as Record<string, string>;
}

function parseEntry(value: unknown, start: number, fileSize: number, file: string, tensor: string): SafetensorsEntry {
  const fail = (detail: string) => new SafetensorsError('bad-tensor', file, detail, { tensor });
  if (!isRecord(value)) throw fail('its header entry is not an object.');
  const { dtype: dtypeName, shape, data_offsets: offsets } = value;
  if (!isIntegers(shape)) throw fail('its shape is not a list of non-negative integers.');
  if (!isIntegers(offsets) || offsets.length !== 2 || offsets[0] > offsets[1])
    throw fail('its data_offsets are not two ascending integers.');
  if (typeof dtypeName !== 'string' || !Object.hasOwn(dtypeOfName, dtypeName)) {
    const known = Object.keys(dtypeOfName).join(', ');
    throw new SafetensorsError(
      'unsupported-dtype',
      file,
      `dtype ${String(dtypeName)} is not supported; supported are ${known}.`,
      { tensor },
    );
  }
  const dtype = dtypeOfName[dtypeName];
  const [begin, end] = offsets;
  if (start + end > fileSize) throw fail(`claims bytes up to ${start + end}, but the file has ${fileSize}. It may be cut short.`);
  const bytes = elementCount(shape) * bytesPerElement[dtype];
  if (bytes !== end - begin) {
    throw fail(`shape [${shape.join(', ')}] of dtype ${dtypeName} needs ${bytes} bytes, but its offsets span ${end - begin}.`);
  }
  return { dtype, shape, begin: start + begin, end: start + end };
}

function toTensor(entry: SafetensorsEntry, bytes: Uint8Array, asFloat32: boolean): HostTensor {
  const tensor: HostTensor = { data: viewAs(entry.dtype, bytes), shape: entry.shape, dtype: entry.dtype };
  const half = entry.dtype === 'float16' || entry.dtype === 'bfloat16';
  return asFloat32 && half ? { data: toFloat32(tensor), shape: entry.shape, dtype: 'float32' } : tensor;
}

// `bytes` owns its buffer from offset zero, so every element size is aligned. Safetensors is little-endian, as are Node's platforms here.
function viewAs(dtype: DType, bytes: Uint8Array): TypedArray {
  const { buffer, byteLength } = bytes;
  const length = byteLength / bytesPerElement[dtype];
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, 0, length);
    case 'float16':
    case 'bfloat16':
      return new Uint16Array(buffer, 0, length);
    case 'int64':
      return new BigInt64Array(buffer, 0, length);
    case 'int32':
      return new Int32Array(buffer, 0, length);
    case 'int8':
      return new Int8Array(buffer, 0, length);
    case 'uint8':
    case 'bool':
      return bytes;
    default:
      return dtype satisfies never;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isIntegers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && (item as number) >= 0);
}
