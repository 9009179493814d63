/** What `MatMulNBits` must know of a matrix. */
export interface PackedForm {
  readonly rows: number;
  readonly width: number;
  readonly bits: 4 | 8;
  /** Weights that share one scale. */
  readonly blockSize: 16 | 32;
  /** Whether the format has a minimum for each block. */
  readonly hasOffsets: boolean;
}

/** Blocks as `MatMulNBits` reads them: value = scale (code - 2^(bits - 1)) + offset, with the values of their source. */
export interface PackedBlocks {
  /** As many codes a block as it has weights; of two 4-bit codes in a byte the first is the low half. */
  readonly codes: Uint8Array;
  /** One a block. */
  readonly scales: Float32Array;
  /** One a block, of formats that have a minimum. */
  readonly offsets?: Float32Array;
}

/** The same matrix with every 4-bit code in a byte. */
export const widenedForm = (form: PackedForm): PackedForm => ({ ...form, bits: 8 });

/** 4-bit codes around 8 as bytes around 128: the same values. The codes are the memory's: the next call writes over them. */
export function widenCodes({ codes, ...rest }: PackedBlocks, memory: PackingMemory): PackedBlocks {
  const bytes = memory.bytes('wide codes', 2 * codes.length);
  for (let i = 0; i < codes.length; i++) {
    bytes[2 * i] = (codes[i] & 15) + 120;
    bytes[2 * i + 1] = (codes[i] >> 4) + 120;
  }
  return { ...rest, codes: bytes };
}

/** The values of packed blocks. The array is the memory's: the next call writes over it. */
export function valuesOfBlocks(
  { codes, scales, offsets }: PackedBlocks,
  { bits, blockSize }: Pick<PackedForm, 'bits' | 'blockSize'>,
  memory: PackingMemory,
): Float32Array {
  const values = memory.floats('values of blocks', scales.length * blockSize);
  const middle = 2 ** (bits - 1);
  for (let block = 0; block < scales.length; block++) {
    const scale = scales[block];
    const base = (offsets?.[block] ?? 0) - scale * middle;
    const from = block * blockSize;
    for (let i = from; i < from + blockSize; i++)
      values[i] = base + scale * (bits === 8 ? codes[i] : (codes[i >> 1] >> (4 * (i & 1))) & 15);
  }
  return values;
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

  /** Where a piece of so many blocks is packed to. */
  blocks(count: number, { bits, blockSize, hasOffsets }: Omit<PackedForm, 'rows' | 'width'>): PackedBlocks {
    const codes = this.bytes('codes', (count * blockSize * bits) / 8);
    const scales = this.floats('scales', count);
    return hasOffsets ? { codes, scales, offsets: this.floats('offsets', count) } : { codes, scales };
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
