import type { GraphBuilder, HostTensor, Tensor, Weights } from '@user-llm/onnx-autograd';
import { GgufTensor } from '../gguf/gguf-tensors.js';
import type { DecoderMatrices } from './decoder-graph.js';
import { blockSize, isPackable, packBlocks } from './packed-blocks.js';
import type { PackedBlocks } from './packed-blocks.js';

/**
 * How products with quantised weights are computed: 4 rounds the activations to 8-bit integers block by block (fast for every length,
 * and what llama.cpp does), 0 keeps them in float32 (exact; slow for few tokens).
 */
export type AccuracyLevel = 0 | 4;

/**
 * A decoder's matrices as they are stored: those in blocks of Q4_0, Q4_1 and Q8_0 go into `MatMulNBits` with their exact values, and
 * the rows of an embedding table are gathered quantised. All others are ordinary parameters.
 */
export class QuantizedMatrices implements DecoderMatrices {
  readonly #constants = new Map<string, Constants>();

  constructor(
    private readonly builder: GraphBuilder,
    private readonly weights: Weights,
    private readonly accuracyLevel: AccuracyLevel,
  ) {}

  product(name: string, x: Tensor): Tensor | undefined {
    const constants = this.#of(name);
    if (constants === undefined) return undefined;
    const { packed, codes, scales, offsets } = constants;
    const { rows: n, width: k } = packed;
    const [product] = this.builder.operator('MatMulNBits', [x, codes, scales], {
      domain: 'com.microsoft',
      attributes: { K: k, N: n, bits: packed.bits, block_size: blockSize, accuracy_level: this.accuracyLevel },
      outputs: [{ dtype: 'float32', shape: [...x.shape.slice(0, -1), n] }],
    });
    if (offsets === undefined) return product;
    // Every weight of a block has the block's offset: it meets the sum of the block's activations.
    const sums = x.reshape([...x.shape.slice(0, -1), k / blockSize, blockSize]).sum(-1);
    return product.add(sums.matmul(offsets, { transposeB: true }));
  }

  rows(name: string, ids: Tensor): Tensor | undefined {
    const constants = this.#of(name);
    if (constants === undefined) return undefined;
    const { packed, codes, scales, offsets } = constants;
    const blocks = packed.width / blockSize;
    const perBlock = (table: Tensor) => table.gather(ids).reshape([...ids.shape, blocks, 1]);
    const centred = this.#unpack(codes.gather(ids), packed).sub(2 ** (packed.bits - 1));
    const scaled = centred.mul(perBlock(scales));
    const values = offsets === undefined ? scaled : scaled.add(perBlock(offsets));
    return values.reshape([...ids.shape, packed.width]);
  }

  /** Codes as floats, `[..., blocks, 32]`. */
  #unpack(codes: Tensor, { bits }: PackedBlocks): Tensor {
    if (bits === 8) return codes.cast('float32');
    const { builder } = this;
    const outputs = [{ dtype: 'uint8', shape: codes.shape } as const];
    const constant = (value: number) => builder.constant(Uint8Array.of(value), []);
    const [low] = builder.operator('BitwiseAnd', [codes, constant(15)], { outputs });
    const [high] = builder.operator('BitShift', [codes, constant(4)], { attributes: { direction: 'RIGHT' }, outputs });
    const halves = [low, high].map((half) => half.cast('float32').reshape([...codes.shape, 1]));
    const [both] = builder.operator('Concat', halves, {
      attributes: { axis: -1 },
      outputs: [{ dtype: 'float32', shape: [...codes.shape, 2] }],
    });
    return both.reshape([...codes.shape.slice(0, -1), blockSize]);
  }

  #of(name: string): Constants | undefined {
    const known = this.#constants.get(name);
    if (known !== undefined) return known;
    const weight = this.weights.get(name);
    if (weight === undefined || !isQuantized(weight)) return undefined;
    const packed = packBlocks(weight.blocks(), weight.shape[0]);
    const { rows, width, bits } = packed;
    const blocks = width / blockSize;
    const constants = {
      packed,
      codes: this.builder.constant(packed.codes, [rows, blocks, (blockSize * bits) / 8]),
      scales: this.builder.constant(packed.scales, [rows, blocks]),
      ...(packed.offsets === undefined ? {} : { offsets: this.builder.constant(packed.offsets, [rows, blocks]) }),
    };
    this.#constants.set(name, constants);
    return constants;
  }
}

interface Constants {
  readonly packed: PackedBlocks;
  readonly codes: Tensor;
  readonly scales: Tensor;
  readonly offsets?: Tensor;
}

const isQuantized = (weight: HostTensor): weight is GgufTensor =>
  weight instanceof GgufTensor && weight.shape.length === 2 && isPackable(weight.format);
