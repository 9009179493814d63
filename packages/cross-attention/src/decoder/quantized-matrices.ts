import type { GraphBuilder, HostTensor, Tensor, Weights } from '@user-llm/onnx-autograd';
import { GgufTensor } from '../gguf/gguf-tensors.js';
import { productWithTransposed } from './decoder-graph.js';
import type { DecoderMatrices } from './decoder-graph.js';
import { PackingMemory, blockSize, isPackable, packBlocks, packedForm } from './packed-blocks.js';
import type { PackedForm } from './packed-blocks.js';
import type { ValueStore } from './value-store.js';

/**
 * How products with quantised weights are computed: 4 rounds the activations to 8-bit integers block by block (fast for every length,
 * and what llama.cpp does), 0 keeps them in float32 (exact; slow for few tokens).
 */
export type AccuracyLevel = 0 | 4;

/** Bytes that are packed at once. */
const pieceBytes = 1 << 20;

/**
 * A decoder's matrices as they are stored: those in blocks of Q4_0, Q4_1 and Q8_0 go into `MatMulNBits` with their exact values, and
 * the rows of an embedding table are gathered quantised. All others are ordinary parameters.
 */
export class QuantizedMatrices implements DecoderMatrices {
  readonly #constants = new Map<string, Constants>();
  readonly #memory = new PackingMemory();
  readonly #memberships = new Map<number, Tensor>();

  constructor(
    private readonly builder: GraphBuilder,
    private readonly weights: Weights,
    private readonly accuracyLevel: AccuracyLevel,
    private readonly store: ValueStore,
  ) {}

  products(names: readonly string[], x: Tensor): Tensor[] | undefined {
    const constants = this.#of(names);
    if (constants === undefined) return undefined;
    const { form, codes, scales, offsets, rows } = constants;
    const shape = x.shape.slice(0, -1);
    const [blocks] = this.builder.operator('MatMulNBits', [x, codes, scales], {
      domain: 'com.microsoft',
      attributes: { K: form.width, N: form.rows, bits: form.bits, block_size: blockSize, accuracy_level: this.accuracyLevel },
      outputs: [{ dtype: 'float32', shape: [...shape, form.rows] }],
    });
    // Every weight of a block has the block's offset: it meets the sum of the block's activations.
    const product = offsets === undefined ? blocks : blocks.add(productWithTransposed(this.#blockSums(x, form.width), offsets));
    if (rows.length === 1) return [product];
    return this.builder.operator('Split', [product, this.builder.constant(rows, [rows.length], 'int64')], {
      attributes: { axis: -1 },
      outputs: rows.map((size) => ({ dtype: 'float32', shape: [...shape, size] })),
    });
  }

  /** Sums of 32 neighbours, `[..., k / 32]`: a product with ones where a number belongs to a block. */
  #blockSums(x: Tensor, k: number): Tensor {
    let membership = this.#memberships.get(k);
    if (membership === undefined) {
      const ones = new Float32Array((k * k) / blockSize);
      for (let i = 0; i < k; i++) ones[Math.floor(i / blockSize) * k + i] = 1;
      membership = this.builder.constant(ones, [k / blockSize, k]);
      this.#memberships.set(k, membership);
    }
    return productWithTransposed(x, membership);
  }

  rows(name: string, ids: Tensor): Tensor | undefined {
    const constants = this.#of([name]);
    if (constants === undefined) return undefined;
    const { form, codes, scales, offsets } = constants;
    const blocks = form.width / blockSize;
    const perBlock = (table: Tensor) => table.gather(ids).reshape([...ids.shape, blocks, 1]);
    const centred = this.#unpack(codes.gather(ids), form).sub(2 ** (form.bits - 1));
    const scaled = centred.mul(perBlock(scales));
    const values = offsets === undefined ? scaled : scaled.add(perBlock(offsets));
    return values.reshape([...ids.shape, form.width]);
  }

  /** Codes as floats, `[..., blocks, 32]`. */
  #unpack(codes: Tensor, { bits }: PackedForm): Tensor {
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

  /** The matrices below one another, where all of them are quantised in one way: fewer and larger products are faster. */
  #of(names: readonly string[]): Constants | undefined {
    const key = names.join(' ');
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const weights = names.map((name) => this.weights.get(name)).filter((weight) => weight !== undefined);
    if (weights.length < names.length || !weights.every(isQuantized)) return undefined;
    const [first] = weights;
    if (weights.some(({ format, shape }) => format !== first.format || shape[1] !== first.shape[1])) return undefined;
    const rows = weights.map(({ shape }) => shape[0]);
    const form = packedForm(first.format, [rows.reduce((a, b) => a + b, 0), first.shape[1]]);
    const open = (part: string, dtype: 'uint8' | 'float32', ...last: number[]) =>
      this.store.open(this.builder, `${key}.${part}`, dtype, [form.rows, form.width / blockSize, ...last]);
    const codes = open('codes', 'uint8', (blockSize * form.bits) / 8);
    const scales = open('scales', 'float32');
    const offsets = form.hasOffsets ? open('offsets', 'float32') : undefined;
    for (const weight of weights)
      // A few rows at a time: an embedding table alone may be a third of a model.
      for (const piece of weight.pieces(this.#memory.bytes('stored', pieceBytes))) {
        const part = packBlocks(piece, this.#memory);
        codes.append(part.codes);
        scales.append(part.scales);
        if (part.offsets !== undefined) offsets?.append(part.offsets);
      }
    const constants = {
      form,
      rows,
      codes: codes.tensor(),
      scales: scales.tensor(),
      ...(offsets === undefined ? {} : { offsets: offsets.tensor() }),
    };
    this.#constants.set(key, constants);
    return constants;
  }
}

interface Constants {
  readonly form: PackedForm;
  /** Rows of each matrix. */
  readonly rows: readonly number[];
  readonly codes: Tensor;
  readonly scales: Tensor;
  readonly offsets?: Tensor;
}

/** Whether a weight goes into `MatMulNBits` as it is stored. */
export const isQuantized = (weight: HostTensor): weight is GgufTensor =>
  weight instanceof GgufTensor && weight.shape.length === 2 && isPackable(weight.format);
