import { PackingMemory } from './packed-form.js';
import type { PackedBlocks, PackedForm } from './packed-form.js';

const blockSize = 32;

/** How a matrix of floats is quantised here: 8 bits around zero, or 4 bits between a block's least and greatest value. */
export const quantizedForm = (bits: 4 | 8, [rows, width]: readonly number[]): PackedForm => ({
  rows,
  width,
  bits,
  blockSize,
  hasOffsets: bits === 4,
});

/** Whether rows consist of whole blocks. */
export const isQuantizable = ([, width]: readonly number[]): boolean => width % blockSize === 0;

/** Values in whole blocks, rounded to the nearest code. The arrays are the memory's: the next call writes over them. */
export function quantizeBlocks(values: Float32Array, bits: 4 | 8, memory = new PackingMemory()): PackedBlocks {
  const count = values.length / blockSize;
  const packed = memory.blocks(count, quantizedForm(bits, [1, values.length]));
  const pack = bits === 8 ? around : between;
  for (let block = 0; block < count; block++) pack(values, packed, block);
  return packed;
}

function around(values: Float32Array, { codes, scales }: PackedBlocks, block: number): void {
  const from = block * blockSize;
  let largest = 0;
  for (let i = 0; i < blockSize; i++) largest = Math.max(largest, Math.abs(values[from + i]));
  const scale = Math.fround(largest / 127);
  const inverse = scale > 0 ? 1 / scale : 0;
  scales[block] = scale;
  for (let i = 0; i < blockSize; i++) codes[from + i] = 128 + Math.round(values[from + i] * inverse);
}

/** Rounds of fitting: codes by scale and minimum, then these by least squares for the codes. */
const fits = 4;
const codesOfBlock = new Uint8Array(blockSize);
const best = new Uint8Array(blockSize);

function between(values: Float32Array, { codes, scales, offsets }: PackedBlocks, block: number): void {
  const from = block * blockSize;
  const own = values.subarray(from, from + blockSize);
  let minimum = Math.min(...own);
  let scale = (Math.max(...own) - minimum) / 15;
  let least = Infinity;
  for (let fit = 0; fit < fits; fit++) {
    const inverse = scale > 0 ? 1 / scale : 0;
    let error = 0;
    let [sum, sumOfSquares, sumOfValues, sumOfProducts] = [0, 0, 0, 0];
    for (let i = 0; i < blockSize; i++) {
      const value = own[i];
      const code = Math.min(15, Math.max(0, Math.round((value - minimum) * inverse)));
      codesOfBlock[i] = code;
      error += (value - minimum - scale * code) ** 2;
      sum += code;
      sumOfSquares += code * code;
      sumOfValues += value;
      sumOfProducts += code * value;
    }
    if (error < least) {
      least = error;
      best.set(codesOfBlock);
      scales[block] = scale;
      offsets![block] = minimum + 8 * scale;
    }
    const spread = blockSize * sumOfSquares - sum * sum;
    if (spread === 0) break;
    scale = (blockSize * sumOfProducts - sum * sumOfValues) / spread;
    minimum = (sumOfValues - scale * sum) / blockSize;
  }
  for (let i = 0; i < blockSize / 2; i++) codes[from / 2 + i] = best[2 * i] | (best[2 * i + 1] << 4);
}
