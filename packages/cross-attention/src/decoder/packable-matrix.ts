import type { HostTensor } from '@user-llm/onnx-autograd';
import { blockFormat } from '../gguf/block-formats.js';
import { dequantize } from '../gguf/dequantize.js';
import { GgufTensor } from '../gguf/gguf-tensors.js';
import { packBlocks, packedForm } from './pack-blocks.js';
import { valuesOfBlocks, widenCodes, widenedForm } from './packed-form.js';
import type { PackedBlocks, PackedForm, PackingMemory } from './packed-form.js';
import { isQuantizable, quantizeBlocks, quantizedForm } from './quantize.js';
import { StoredMatrix } from './stored-matrix.js';

/**
 * How products with quantised weights are computed: 4 rounds the activations to 8-bit integers block by block (fast for every length,
 * and what llama.cpp does), 0 keeps them in float32 (exact; slow for few tokens).
 */
export type AccuracyLevel = 0 | 4;

/** How a model computes with its weights. */
export interface Precision {
  /** Default 4. */
  readonly accuracyLevel?: AccuracyLevel | undefined;
  /**
   * Bits to which matrices without blocks are rounded, in blocks of 32; with 4, embeddings and head still have 8. Default: 8 for the
   * float16 and bfloat16 matrices of a GGUF file, and none for others. `false`: none at all. Blocks of a GGUF file stay as they are;
   * those of a saved model do unless this is given: it is then about the float32 values that were saved with them.
   */
  readonly quantize?: 8 | 4 | false | undefined;
  /**
   * Whether 4-bit codes lie two in a byte or one: the same values in twice the memory. A processor with AVX-512 VNNI multiplies bytes
   * faster, by which prompts gain, and reads nibbles faster, by which decoding gains; with AVX2 alone both are faster with nibbles. Default
   * when a model is served: bytes where the processor is known to have the former, for models of up to about 130 million such weights at
   * accuracy level 4; nibbles otherwise, and in a file.
   */
  readonly codes?: 'nibbles' | 'bytes' | undefined;
}

/** A matrix that goes into `MatMulNBits`. */
export interface PackableMatrix {
  readonly form: PackedForm;
  /** Its blocks, some rows after the others. A piece is valid until the next one. */
  pieces(memory: PackingMemory): Iterable<PackedBlocks>;
}

/** Bytes that are packed at once: an embedding table alone may be a third of a model. */
const pieceBytes = 1 << 20;

/** 4-bit codes that are served as bytes unless otherwise asked for: those of about 130 million weights. */
const smallCodes = 1 << 27;

/** How so many 4-bit codes lie in a served model: as asked for, or as is faster. */
export function servedCodes(
  count: number,
  { codes, accuracyLevel = 4 }: Precision,
  bytesAreFast: boolean,
): NonNullable<Precision['codes']> {
  return codes ?? (bytesAreFast && accuracyLevel === 4 && count <= smallCodes ? 'bytes' : 'nibbles');
}

/** A weight as it goes into `MatMulNBits`; undefined for one that is computed with in float32. */
export function packableMatrix(name: string, weight: HostTensor, precision: Precision): PackableMatrix | undefined {
  const matrix = matrixOf(name, weight, precision);
  if (matrix?.form.bits !== 4 || precision.codes !== 'bytes') return matrix;
  return {
    form: widenedForm(matrix.form),
    *pieces(memory) {
      for (const piece of matrix.pieces(memory)) yield widenCodes(piece, memory);
    },
  };
}

function matrixOf(name: string, weight: HostTensor, { quantize }: Precision): PackableMatrix | undefined {
  const { shape } = weight;
  if (shape.length !== 2) return undefined;
  if (weight instanceof StoredMatrix && quantize === undefined) return weight;
  if (weight instanceof GgufTensor) {
    const form = packedForm(weight.format, shape);
    if (form !== undefined)
      return {
        form,
        *pieces(memory) {
          for (const piece of weight.pieces(memory.bytes('stored', pieceBytes))) yield packBlocks(piece, memory);
        },
      };
  }
  const isHalf = weight instanceof GgufTensor && weight.format !== 'F32';
  const asked = quantize ?? (isHalf ? 8 : false);
  if (asked === false || !isQuantizable(shape)) return undefined;
  const bits = name === 'model.embed_tokens.weight' || name === 'lm_head.weight' ? 8 : asked;
  return {
    form: quantizedForm(bits, shape),
    *pieces(memory) {
      for (const values of valuePieces(weight, memory)) yield quantizeBlocks(values, bits, memory);
    },
  };
}

/** The values that a matrix is computed with, some rows after the others. A piece is valid until the next one. */
export function* servedValuePieces(weight: HostTensor, memory: PackingMemory): Generator<Float32Array> {
  if (weight instanceof StoredMatrix) for (const piece of weight.pieces(memory)) yield valuesOfBlocks(piece, weight.form, memory);
  else yield* valuePieces(weight, memory);
}

/** A matrix's float32 values, some rows after the others. */
function* valuePieces(weight: HostTensor, memory: PackingMemory): Generator<Float32Array> {
  if (weight instanceof GgufTensor) {
    const format = blockFormat(weight.format);
    for (const { bytes } of weight.pieces(memory.bytes('stored', pieceBytes))) yield dequantize(format, bytes);
  } else {
    const values = weight.data as Float32Array;
    const [, width] = weight.shape;
    const size = Math.max(1, Math.floor(pieceBytes / (4 * width))) * width;
    for (let from = 0; from < values.length; from += size) yield values.subarray(from, from + size);
  }
}
