import type { GraphBuilder, Tensor, Weights } from '@user-llm/onnx-autograd';
import { productWithTransposed } from './decoder-graph.js';
import type { ServedMatrices } from './served-matrices.js';
import { Joined } from './served-matrices.js';
import { packableMatrix } from './packable-matrix.js';
import type { Precision } from './packable-matrix.js';
import { PackingMemory } from './packed-form.js';
import type { PackedForm } from './packed-form.js';
import { blockName } from './stored-matrix.js';
import type { BlockPart } from './stored-matrix.js';
import type { ValueStore } from './value-store.js';

/**
 * A decoder's matrices as they are stored: those in blocks go into `MatMulNBits` with their exact values, others rounded where that is
 * asked for, and the rows of an embedding table are gathered quantised. All others are ordinary parameters.
 */
export class QuantizedMatrices implements ServedMatrices {
  readonly #constants = new Map<string, Constants>();
  readonly #memory = new PackingMemory();
  readonly #memberships = new Map<number, Tensor>();
  readonly #joined = new Joined();

  constructor(
    private readonly builder: GraphBuilder,
    private readonly weights: Weights,
    private readonly precision: Precision,
    private readonly store: ValueStore,
  ) {}

  products(names: readonly string[], x: Tensor): Tensor[] | undefined {
    const constants = this.#of(names);
    if (constants === undefined) return undefined;
    const { form, codes, scales, offsets, rows } = constants;
    const shape = x.shape.slice(0, -1);
    const [blocks] = this.builder.operator('MatMulNBits', [x, codes, scales], {
      domain: 'com.microsoft',
      attributes: {
        K: form.width,
        N: form.rows,
        bits: form.bits,
        block_size: form.blockSize,
        accuracy_level: this.precision.accuracyLevel ?? 4,
      },
      outputs: [{ dtype: 'float32', shape: [...shape, form.rows] }],
    });
    // Every weight of a block has the block's offset: it meets the sum of the block's activations.
    const product = offsets === undefined ? blocks : blocks.add(productWithTransposed(this.#blockSums(x, form), offsets));
    return this.#joined.split(product, rows);
  }

  whole(parts: readonly Tensor[]): Tensor | undefined {
    return this.#joined.whole(parts);
  }

  /** Sums of a block's neighbours, `[..., k / 32]`: a product with ones where a number belongs to a block. */
  #blockSums(x: Tensor, { width: k, blockSize }: PackedForm): Tensor {
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
    // Of a head that is the embedding too, the product takes all values into an order of its own. Where they are mapped, a second copy
    // that is only gathered from costs no memory but the rows that are read.
    const constants = this.#of([name], this.store.isMapped ? 'rows of ' : '');
    if (constants === undefined) return undefined;
    const { form, codes, scales, offsets } = constants;
    const blocks = form.width / form.blockSize;
    const perBlock = (table: Tensor) => table.gather(ids).reshape([...ids.shape, blocks, 1]);
    const centred = this.#unpack(codes.gather(ids), form).sub(2 ** (form.bits - 1));
    const scaled = centred.mul(perBlock(scales));
    const values = offsets === undefined ? scaled : scaled.add(perBlock(offsets));
    return values.reshape([...ids.shape, form.width]);
  }

  /** Codes as floats, `[..., blocks, block size]`. */
  #unpack(codes: Tensor, { bits, blockSize }: PackedForm): Tensor {
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
  #of(names: readonly string[], use = ''): Constants | undefined {
    const key = use + names.join(' ');
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const matrices = names.map((name) => {
      const weight = this.weights.get(name);
      return weight && packableMatrix(name, weight, this.precision);
    });
    if (!matrices.every((matrix) => matrix !== undefined)) return undefined;
    const [{ form: first }] = matrices;
    if (matrices.some(({ form }) => kindOf(form) !== kindOf(first))) return undefined;
    const rows = matrices.map(({ form }) => form.rows);
    const form = { ...first, rows: rows.reduce((a, b) => a + b, 0) };
    const open = (part: BlockPart, dtype: 'uint8' | 'float32', ...last: number[]) =>
      this.store.open(this.builder, use + blockName(names, part), dtype, [form.rows, form.width / form.blockSize, ...last]);
    const codes = open('codes', 'uint8', (form.blockSize * form.bits) / 8);
    const scales = open('scales', 'float32');
    const offsets = form.hasOffsets ? open('offsets', 'float32') : undefined;
    for (const matrix of matrices)
      for (const part of matrix.pieces(this.#memory)) {
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

/** What matrices below one another must have in common. */
const kindOf = ({ width, bits, blockSize, hasOffsets }: PackedForm): string => `${width} ${bits} ${blockSize} ${hasOffsets}`;
