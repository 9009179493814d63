import { blockFormat } from '../gguf/block-formats.js';
import type { BlockFormatName } from '../gguf/block-formats.js';
import { fiveBits, groupScale, readHalf } from '../gguf/dequantize.js';
import type { Blocks } from '../gguf/gguf-tensors.js';
import { PackingMemory } from './packed-form.js';
import type { PackedBlocks, PackedForm } from './packed-form.js';

type Kind = Omit<PackedForm, 'rows' | 'width'>;

/** Packs the stored block that begins at a byte, as blocks from a number on. */
type Pack = (bytes: Uint8Array, at: number, to: PackedBlocks, block: number) => void;

const q8: Pack = (bytes, at, { codes, scales }, block) => {
  scales[block] = readHalf(bytes, at);
  // Signed bytes around 0 become unsigned ones around 128.
  for (let i = 0; i < 32; i++) codes[32 * block + i] = bytes[at + 2 + i] ^ 0x80;
};

/** In the file low halves are the first sixteen and high halves the last; here neighbours share a byte. */
const q4 =
  (begin: number): Pack =>
  (bytes, at, { codes, scales, offsets }, block) => {
    const scale = readHalf(bytes, at);
    scales[block] = scale;
    if (offsets !== undefined) offsets[block] = readHalf(bytes, at + 2) + 8 * scale;
    for (let i = 0, to = 16 * block; i < 16; i += 2, to++) {
      const even = bytes[at + begin + i];
      const odd = bytes[at + begin + i + 1];
      codes[to] = (even & 15) | ((odd & 15) << 4);
      codes[to + 8] = (even >> 4) | (odd & 0xf0);
    }
  };

/** Five bits around 16 become a byte around 128. */
const q5 =
  (begin: number): Pack =>
  (bytes, at, { codes, scales, offsets }, block) => {
    const scale = readHalf(bytes, at);
    scales[block] = scale;
    if (offsets !== undefined) offsets[block] = readHalf(bytes, at + 2) + 16 * scale;
    for (let i = 0; i < 32; i++) codes[32 * block + i] = fiveBits(bytes, at + begin, i) + 112;
  };

/** Scale and offset of a group of Q4_K or Q5_K, whose codes are centred at `centre`. */
function writeGroup(
  bytes: Uint8Array,
  at: number,
  group: number,
  centre: number,
  { scales, offsets }: PackedBlocks,
  block: number,
) {
  const { scale, minimum } = groupScale(bytes, at + 4, group);
  scales[block] = readHalf(bytes, at) * scale;
  offsets![block] = centre * scales[block] - readHalf(bytes, at + 2) * minimum;
}

const q4k: Pack = (bytes, at, to, block) => {
  for (let group = 0; group < 8; group++) {
    writeGroup(bytes, at, group, 8, to, block + group);
    const from = at + 16 + 32 * (group >> 1);
    const shift = group & 1 ? 4 : 0;
    for (let i = 0; i < 16; i++)
      to.codes[16 * (block + group) + i] =
        ((bytes[from + 2 * i] >> shift) & 15) | (((bytes[from + 2 * i + 1] >> shift) & 15) << 4);
  }
};

const q5k: Pack = (bytes, at, to, block) => {
  for (let group = 0; group < 8; group++) {
    writeGroup(bytes, at, group, 16, to, block + group);
    const from = at + 48 + 32 * (group >> 1);
    const shift = group & 1 ? 4 : 0;
    for (let i = 0; i < 32; i++)
      to.codes[32 * (block + group) + i] = (((bytes[from + i] >> shift) & 15) | (((bytes[at + 16 + i] >> group) & 1) << 4)) + 112;
  }
};

const q6k: Pack = (bytes, at, { codes, scales }, block) => {
  const d = readHalf(bytes, at + 208);
  for (let i = 0; i < 16; i++) scales[block + i] = d * ((bytes[at + 192 + i] << 24) >> 24);
  for (let i = 0; i < 256; i++) {
    const half = i >> 7;
    const quarter = (i >> 5) & 3;
    const low = bytes[at + 64 * half + 32 * (quarter & 1) + (i & 31)];
    const high = bytes[at + 128 + 32 * half + (i & 31)];
    codes[16 * block + i] = (((low >> (quarter > 1 ? 4 : 0)) & 15) | (((high >> (2 * quarter)) & 3) << 4)) + 96;
  }
};

const packed = (pack: Pack, bits: 4 | 8, hasOffsets: boolean, blockSize: 16 | 32 = 32) => ({
  pack,
  kind: { bits, blockSize, hasOffsets } satisfies Kind,
});

/**
 * The formats whose values `MatMulNBits` computes with as they are. Codes of five and six bits become bytes; groups of 32 (Q6_K: 16) in
 * blocks of 256 have a scale each, which is the product of the block's and the group's.
 */
const packings: Readonly<Partial<Record<BlockFormatName, { readonly pack: Pack; readonly kind: Kind }>>> = {
  Q4_0: packed(q4(2), 4, false),
  Q4_1: packed(q4(4), 4, true),
  Q5_0: packed(q5(2), 8, false),
  Q5_1: packed(q5(4), 8, true),
  Q8_0: packed(q8, 8, false),
  Q4_K: packed(q4k, 4, true),
  Q5_K: packed(q5k, 8, true),
  Q6_K: packed(q6k, 8, false, 16),
};

/** How a matrix in a format is given to `MatMulNBits`; undefined for formats without blocks. */
export function packedForm(format: BlockFormatName, [rows, width]: readonly number[]): PackedForm | undefined {
  const packing = packings[format];
  return packing && { rows, width, ...packing.kind };
}

/** Blocks in the order that `MatMulNBits` reads. The arrays are the memory's: the next call writes over them. */
export function packBlocks({ format, bytes }: Blocks, memory = new PackingMemory()): PackedBlocks {
  const packing = packings[format];
  if (packing === undefined) throw new Error(`internal: ${format} has no blocks`);
  const { pack, kind } = packing;
  const { values, bytes: stored } = blockFormat(format);
  const count = bytes.length / stored;
  const each = values / kind.blockSize;
  const to = memory.blocks(count * each, kind);
  for (let block = 0; block < count; block++) pack(bytes, block * stored, to, block * each);
  return to;
}
