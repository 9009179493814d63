import path from 'node:path';
import { elementCount, onnxValues, tensorOfValue, toFloat32 } from '@user-llm/onnx-autograd';
import type { DType, HostTensor, OnnxValue } from '@user-llm/onnx-autograd';
import { decoderTensorShapes } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { readRange } from '../folder/file-range.js';
import type { FileSource } from '../folder/file-range.js';
import { ModelFolderError } from '../folder/model-folder-error.js';
import type { PackableMatrix } from './packable-matrix.js';
import { PackingMemory } from './packed-form.js';
import type { PackedBlocks, PackedForm } from './packed-form.js';

/** What the blocks of matrices below one another consist of in a graph. */
export type BlockPart = 'codes' | 'scales' | 'offsets';

/** The name of a part in a graph: what `storedMatrices` finds the blocks by. */
export const blockName = (matrices: readonly string[], part: BlockPart): string => `${matrices.join(' ')}.${part}`;

/** Where values lie in a file. */
export interface StoredValues {
  readonly source: FileSource;
  readonly dtype: DType;
  /** Bytes before the values. */
  readonly begin: number;
}

/** Where each part of a matrix's blocks begins in the graph's file. */
type Places = Readonly<Partial<Record<BlockPart, number>>> & { readonly codes: number; readonly scales: number };

/** Bytes of blocks that are read at once. */
const pieceBytes = 1 << 20;

/**
 * A matrix of a saved model whose graph computes with it in blocks. These are read from the graph's file when a model is made of them, and
 * its float32 values, which the blocks may be rounded from, when it is trained: neither stays in memory.
 */
export class StoredMatrix implements HostTensor, PackableMatrix {
  readonly dtype = 'float32';
  #values: WeakRef<Float32Array> | undefined;
  #kept: { readonly blocks: PackedBlocks; readonly values: Float32Array } | undefined;

  constructor(
    readonly name: string,
    readonly form: PackedForm,
    private readonly source: FileSource,
    private readonly places: Places,
    private readonly values?: StoredValues,
  ) {}

  get shape(): readonly number[] {
    return [this.form.rows, this.form.width];
  }

  /** The same matrix with float32 values of its own. */
  withValues(values: StoredValues): StoredMatrix {
    return new StoredMatrix(this.name, this.form, this.source, this.places, values);
  }

  get data(): Float32Array {
    const known = this.#kept?.values ?? this.#values?.deref();
    if (known !== undefined) return known;
    if (this.values === undefined) throw new Error(`internal: the float32 values of '${this.name}' were not looked for`);
    const { source, dtype, begin } = this.values;
    const count = elementCount(this.shape);
    const bits = dtype === 'float32' ? new Float32Array(count) : new Uint16Array(count);
    this.#read(source, begin, new Uint8Array(bits.buffer));
    const values = toFloat32({ dtype, shape: this.shape, data: bits });
    this.#values = new WeakRef(values);
    return values;
  }

  *pieces(memory: PackingMemory): Generator<PackedBlocks> {
    if (this.#kept !== undefined) {
      yield this.#kept.blocks;
      return;
    }
    const { rows, width, blockSize, bits } = this.form;
    const each = Math.max(1, Math.floor(pieceBytes / ((width * bits) / 8)));
    for (let row = 0; row < rows; row += each) {
      const blocks = (Math.min(each, rows - row) * width) / blockSize;
      yield this.#readBlocks((row * width) / blockSize, memory.blocks(blocks, this.form));
    }
  }

  /** Takes everything into memory, because its files are about to go. */
  keep(): void {
    const { rows, width, blockSize } = this.form;
    const blocks = new PackingMemory().blocks((rows * width) / blockSize, this.form);
    this.#kept ??= { blocks: this.#readBlocks(0, blocks), values: this.data };
  }

  /** Whether it is read from what this folder holds. */
  isIn(folder: string): boolean {
    return path.resolve(this.source.file).startsWith(path.resolve(folder) + path.sep);
  }

  /** Fills memory with the blocks from a number on. */
  #readBlocks(from: number, into: PackedBlocks): PackedBlocks {
    const { blockSize, bits } = this.form;
    const read = (part: BlockPart, bytesOfBlock: number, values: Uint8Array | Float32Array) =>
      this.#read(
        this.source,
        this.places[part]! + from * bytesOfBlock,
        new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      );
    read('codes', (blockSize * bits) / 8, into.codes);
    read('scales', 4, into.scales);
    if (into.offsets !== undefined) read('offsets', 4, into.offsets);
    return into;
  }

  #read(source: FileSource, begin: number, into: Uint8Array): void {
    const what = 'could not be read again: it was moved, or is another file than when the model was loaded. Load it again.';
    readRange(source, begin, into, (cause) => fileError('changed', source, what, this.name, cause));
  }
}

/**
 * The matrices that a saved graph computes with in blocks, by Hugging Face's names. Of matrices that are one product the blocks lie below
 * one another. Blocks that the config does not call for are a `ModelFolderError`.
 *
 * @param model the bytes of `source`
 */
export function storedMatrices(model: Uint8Array, source: FileSource, config: DecoderConfig): Map<string, StoredMatrix> {
  const values = onnxValues(model);
  const shapes = decoderTensorShapes(config);
  const matrices = new Map<string, StoredMatrix>();
  for (const [name, codes] of values) {
    if (!name.endsWith('.codes')) continue;
    const names = name.slice(0, -'.codes'.length).split(' ');
    const [scales, offsets] = (['scales', 'offsets'] as const).map((part) => values.get(blockName(names, part)));
    const rows = names.map((each) => shapes.get(each)?.[0] ?? 0);
    const [, width = 0] = shapes.get(names[0]) ?? [];
    const [allRows, blocks, bytes] = codes.shape;
    const blockSize = width / blocks;
    const bits = (8 * bytes) / blockSize;
    if (scales === undefined || allRows !== rows.reduce((a, b) => a + b) || !isBlockSize(blockSize) || !isBits(bits))
      throw fileError(
        'damaged',
        source,
        'holds blocks of other matrices than config.json calls for. Save the model again.',
        names[0],
      );
    let from = 0;
    names.forEach((each, i) => {
      const form = { rows: rows[i], width, bits, blockSize, hasOffsets: offsets !== undefined };
      const begin = (part: OnnxValue) => part.bytes.byteOffset - model.byteOffset + (from * part.bytes.length) / allRows;
      const places = { codes: begin(codes), scales: begin(scales), ...(offsets && { offsets: begin(offsets) }) };
      matrices.set(each, new StoredMatrix(each, form, source, places));
      from += rows[i];
    });
  }
  return matrices;
}

/** All weights in a saved graph: matrices in blocks as `storedMatrices`, the others copied. */
export function graphWeights(model: Uint8Array, source: FileSource, config: DecoderConfig): Map<string, HostTensor> {
  const weights = new Map<string, HostTensor>(storedMatrices(model, source, config));
  for (const [name, value] of onnxValues(model)) if (!isBlockPart(name)) weights.set(name, tensorOfValue(value));
  return weights;
}

const isBlockPart = (name: string) => /\.(codes|scales|offsets)$/.test(name);
const isBlockSize = (size: number): size is PackedForm['blockSize'] => size === 16 || size === 32;
const isBits = (bits: number): bits is PackedForm['bits'] => bits === 4 || bits === 8;

const fileError = (problem: 'changed' | 'damaged', { file }: FileSource, what: string, tensor: string, cause?: unknown) =>
  new ModelFolderError(problem, path.dirname(file), `${file} ${what}`, { file: path.basename(file), tensor, cause });
