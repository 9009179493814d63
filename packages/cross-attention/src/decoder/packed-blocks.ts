import type { BlockFormatName } from '../gguf/block-formats.js';
import { readHalf } from '../gguf/dequantize.js';
import type { Blocks } from '../gguf/gguf-tensors.js';

/** Weights that share one scale. */
export const blockSize = 32;

/** What `MatMulNBits` must know of a matrix. */
export interface PackedForm {
  readonly rows: number;
  readonly width: number;
  readonly bits: 4 | 8;
  /** Whether the format has a minimum for each block. */
  readonly hasOffsets: boolean;
}

/** Blocks as `MatMulNBits` reads them: value = scale (code - 2^(bits - 1)) + offset, with the values of their source exactly. */
export interface PackedBlocks {
  /** 32 codes a block; of two 4-bit codes in a byte the first is the low half. */
  readonly codes: Uint8Array;
  /** One a block. */
  readonly scales: Float32Array;
  /** One a block, of formats that have a minimum. */
  readonly offsets?: Float32Array;
}

/** Memory that serves one piece of a matrix after the other: a model's worth of garbage would stand around for long. */
export class PackingMemory {
  readonly #buffers = new Map<string, ArrayBuffer>();

  bytes(use: string, length: number): Uint8Array {
    return new Uint8Array(this.#buffer(use, length), 0, length);
  }

  floats(use: string, length: number): Float32Array {
    return new Float32Array(this.#buffer(use, 4 * length), 0, length);
  }

  #buffer(use: string, bytes: number): ArrayBuffer {
    let buffer = this.#buffers.get(use);
    if (buffer === undefined || buffer.byteLength < bytes) {
      buffer = new ArrayBuffer(bytes);
      this.#buffers.set(use, buffer);
    }
    return buffer;
  }
}

const packable: readonly BlockFormatName[] = ['Q4_0', 'Q4_1', 'Q8_0'];

/** Whether a format's values can be given to `MatMulNBits` exactly. */
export const isPackable = (format: BlockFormatName): boolean => packable.includes(format);

export const packedForm = (format: BlockFormatName, [rows, width]: readonly number[]): PackedForm => ({
  rows,
  width,
  bits: format === 'Q8_0' ? 8 : 4,
  hasOffsets: format === 'Q4_1',
});

/** Blocks of Q4_0, Q4_1 or Q8_0 in the order that `MatMulNBits` reads. The arrays are the memory's: the next call writes over them. */
export function packBlocks({ format, bytes }: Blocks, memory = new PackingMemory()): PackedBlocks {
  if (format === 'Q8_0') return packBytes(bytes, memory);
  if (format === 'Q4_0' || format === 'Q4_1') return packNibbles(bytes, format === 'Q4_1', memory);
  throw new Error(`internal: ${format} cannot be packed without loss`);
}

function packBytes(bytes: Uint8Array, memory: PackingMemory): PackedBlocks {
  const stored = 2 + blockSize;
  const count = bytes.length / stored;
  const codes = memory.bytes('codes', count * blockSize);
  const scales = memory.floats('scales', count);
  for (let block = 0, at = 0, to = 0; block < count; block++, at += stored) {
    scales[block] = readHalf(bytes, at);
    // Signed bytes around 0 become unsigned ones around 128.
    for (let i = 2; i < stored; i++) codes[to++] = bytes[at + i] ^ 0x80;
  }
  return { codes, scales };
}

function packNibbles(bytes: Uint8Array, hasMinimum: boolean, memory: PackingMemory): PackedBlocks {
  const begin = hasMinimum ? 4 : 2;
  const stored = begin + blockSize / 2;
  const count = bytes.length / stored;
  const codes = memory.bytes('codes', (count * blockSize) / 2);
  const scales = memory.floats('scales', count);
  const offsets = hasMinimum ? memory.floats('offsets', count) : undefined;
  for (let block = 0, at = 0, to = 0; block < count; block++, at += stored) {
    const scale = readHalf(bytes, at);
    scales[block] = scale;
    if (offsets !== undefined) offsets[block] = readHalf(bytes, at + 2) + 8 * scale;
    // In the file low halves are the first sixteen and high halves the last; here neighbours share a byte.
    for (let i = 0; i < 16; i += 2, to++) {
      const even = bytes[at + begin + i];
      const odd = bytes[at + begin + i + 1];
      codes[to] = (even & 15) | ((odd & 15) << 4);
      codes[to + 8] = (even >> 4) | (odd & 0xf0);
    }
    to += 8;
  }
  return offsets === undefined ? { codes, scales } : { codes, scales, offsets };
}
