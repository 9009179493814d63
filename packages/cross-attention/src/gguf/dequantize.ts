import { toFloat32 } from '@user-llm/onnx-autograd';
import type { BlockFormat, BlockFormatName } from './block-formats.js';

let halves: Float32Array | undefined;

/** The float16 at byte `at`, by a table of all 65,536 that is made when the first one is read. */
export function readHalf(bytes: Uint8Array, at: number): number {
  halves ??= toFloat32({ dtype: 'float16', data: Uint16Array.from({ length: 65_536 }, (_, i) => i), shape: [65_536] });
  return halves[bytes[at] | (bytes[at + 1] << 8)];
}

/** Writes the values of one block, which begins at byte `at`, to `out` from `to` on. */
type BlockReader = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

const scaled32 =
  (codes: (bytes: Uint8Array, at: number, i: number) => number, begin: number): BlockReader =>
  (bytes, at, out, to) => {
    const d = readHalf(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * codes(bytes, at + begin, i);
  };

const affine32 =
  (codes: (bytes: Uint8Array, at: number, i: number) => number, begin: number): BlockReader =>
  (bytes, at, out, to) => {
    const d = readHalf(bytes, at);
    const m = readHalf(bytes, at + 2);
    for (let i = 0; i < 32; i++) out[to + i] = d * codes(bytes, at + begin, i) + m;
  };

/** 16 bytes: the low halves are the values 0 to 15, the high halves 16 to 31. */
const nibble = (bytes: Uint8Array, at: number, i: number): number => (i < 16 ? bytes[at + i] & 15 : bytes[at + i - 16] >> 4);

/** The i-th code of a block of Q5_0 or Q5_1: 4 bytes of fifth bits, then the nibbles. */
export const fiveBits = (bytes: Uint8Array, at: number, i: number): number =>
  nibble(bytes, at + 4, i) | (((bytes[at + (i >> 3)] >> (i & 7)) & 1) << 4);

/** The six-bit scale and minimum of the j-th of eight groups of 32, packed into 12 bytes (Q4_K, Q5_K). */
export function groupScale(bytes: Uint8Array, at: number, j: number): { scale: number; minimum: number } {
  if (j < 4) return { scale: bytes[at + j] & 63, minimum: bytes[at + j + 4] & 63 };
  return {
    scale: (bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >> 6) << 4),
    minimum: (bytes[at + j + 4] >> 4) | ((bytes[at + j] >> 6) << 4),
  };
}

const q4k: BlockReader = (bytes, at, out, to) => {
  const d = readHalf(bytes, at);
  const dMinimum = readHalf(bytes, at + 2);
  for (let group = 0; group < 8; group++) {
    const { scale, minimum } = groupScale(bytes, at + 4, group);
    const factor = Math.fround(d * scale);
    const offset = Math.fround(dMinimum * minimum);
    const codes = at + 16 + 32 * (group >> 1);
    const shift = group & 1 ? 4 : 0;
    for (let i = 0; i < 32; i++) out[to + 32 * group + i] = factor * ((bytes[codes + i] >> shift) & 15) - offset;
  }
};

const q5k: BlockReader = (bytes, at, out, to) => {
  const d = readHalf(bytes, at);
  const dMinimum = readHalf(bytes, at + 2);
  for (let group = 0; group < 8; group++) {
    const { scale, minimum } = groupScale(bytes, at + 4, group);
    const factor = Math.fround(d * scale);
    const offset = Math.fround(dMinimum * minimum);
    const codes = at + 48 + 32 * (group >> 1);
    const shift = group & 1 ? 4 : 0;
    for (let i = 0; i < 32; i++) {
      const code = ((bytes[codes + i] >> shift) & 15) | (((bytes[at + 16 + i] >> group) & 1) << 4);
      out[to + 32 * group + i] = factor * code - offset;
    }
  }
};

const q6k: BlockReader = (bytes, at, out, to) => {
  const d = readHalf(bytes, at + 208);
  for (let group = 0; group < 8; group++) {
    // Half of the block, then a quarter of that: nibbles of 64 bytes, pairs of bits of 32 bytes.
    const half = group >> 2;
    const quarter = group & 3;
    const low = at + 64 * half + 32 * (quarter & 1);
    const high = at + 128 + 32 * half;
    for (let i = 0; i < 32; i++) {
      const code = ((bytes[low + i] >> (quarter > 1 ? 4 : 0)) & 15) | (((bytes[high + i] >> (2 * quarter)) & 3) << 4);
      const scale = (bytes[at + 192 + 2 * group + (i >> 4)] << 24) >> 24;
      out[to + 32 * group + i] = Math.fround(d * scale) * (code - 32);
    }
  }
};

const readers: Readonly<Record<Exclude<BlockFormatName, 'F32' | 'F16' | 'BF16'>, BlockReader>> = {
  Q8_0: scaled32((bytes, at, i) => (bytes[at + i] << 24) >> 24, 2),
  Q4_0: scaled32((bytes, at, i) => nibble(bytes, at, i) - 8, 2),
  Q4_1: affine32(nibble, 4),
  Q5_0: scaled32((bytes, at, i) => fiveBits(bytes, at, i) - 16, 2),
  Q5_1: affine32(fiveBits, 4),
  Q4_K: q4k,
  Q5_K: q5k,
  Q6_K: q6k,
};

/** The values of whole blocks in float32, exactly what ggml's own formula gives. `bytes` may begin at any address. */
export function dequantize(format: BlockFormat, bytes: Uint8Array): Float32Array {
  const { name } = format;
  if (name === 'F32') return new Float32Array(new Uint8Array(bytes).buffer);
  if (name === 'F16' || name === 'BF16') {
    const data = new Uint16Array(new Uint8Array(bytes).buffer);
    return toFloat32({ dtype: name === 'F16' ? 'float16' : 'bfloat16', data, shape: [data.length] });
  }
  const count = bytes.length / format.bytes;
  const values = new Float32Array(count * format.values);
  const read = readers[name];
  for (let block = 0; block < count; block++) read(bytes, block * format.bytes, values, block * format.values);
  return values;
}
