import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExternalValue, GraphBuilder, HostTensor, OnnxOptions, Tensor, Weights } from '@user-llm/onnx-autograd';

type ValueType = 'uint8' | 'int8' | 'float32';
type Piece = Uint8Array | Int8Array | Float32Array;

/** A large value of a graph, given in pieces. */
export interface GrowingValue {
  append(piece: Piece): void;
  /** The tensor, once all of it is there. */
  tensor(): Tensor;
}

/** Where the large values of a graph go while it is built. */
export interface ValueStore {
  /** Whether values lie outside of the process until they are read. */
  readonly isMapped: boolean;
  /** How the model that is written says where they are, and the weights of its graph. */
  onnx(builder: GraphBuilder, weights: Weights): Pick<OnnxOptions, 'values' | 'external' | 'weights' | 'mostBytes'>;
  open(builder: GraphBuilder, name: string, dtype: ValueType, shape: readonly number[]): GrowingValue;
}

const elementBytes = { uint8: 1, int8: 1, float32: 4 } as const;
const viewOf = { uint8: Uint8Array, int8: Int8Array, float32: Float32Array } as const;
const bytesOf = (dtype: ValueType, shape: readonly number[]) => shape.reduce((a, b) => a * b, elementBytes[dtype]);

/** Values inside the graph, by name, for a model in one file. */
export class ValuesInside implements ValueStore {
  readonly isMapped = false;
  readonly #values = new Map<string, HostTensor>();

  constructor(private readonly limits: Pick<OnnxOptions, 'mostBytes'> = {}) {}

  onnx(_: GraphBuilder, weights: Weights) {
    return { values: this.#values, weights, ...this.limits };
  }

  open(builder: GraphBuilder, name: string, dtype: ValueType, shape: readonly number[]): GrowingValue {
    const bytes = new Uint8Array(bytesOf(dtype, shape));
    this.#values.set(name, { dtype, shape, data: new viewOf[dtype](bytes.buffer) });
    let end = 0;
    return {
      append(piece) {
        bytes.set(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), end);
        end += piece.byteLength;
      },
      tensor: () => builder.input(name, shape, dtype),
    };
  }
}

/** Offsets that can be mapped into memory. */
const alignment = 4096;

/** Float32 weights of a graph that may stay in it: an ONNX file ends at 2 GiB, and has constants too. */
const mostInside = 2 ** 30;

/** Whether tensors in float32 are few enough to stay in a graph. */
export const fitInside = (tensors: Iterable<Pick<HostTensor, 'shape'>>, most = mostInside): boolean =>
  Array.from(tensors).reduce((sum, { shape }) => sum + bytesOf('float32', shape), 0) <= most;

/**
 * Values in a temporary file of this process alone, for a session that is opened at once: it maps the file into memory, so that of all
 * weights there is one copy and the runtime's own arrangement of them. Float32 weights go there too where a graph would be too large
 * with them. Remove it when the session is open.
 */
export class ValueFile implements ValueStore {
  readonly isMapped = true;
  readonly folder: string;
  readonly #values = new Map<string, ExternalValue>();
  readonly #file = `${randomBytes(8).toString('hex')}.bin`;
  readonly #descriptor: number;
  #end = 0;

  /** @param most bytes of float32 weights that stay in a graph */
  constructor(private readonly most = mostInside) {
    this.folder = mkdtempSync(path.join(tmpdir(), `user-llm-${process.pid}-`));
    this.#descriptor = openSync(path.join(this.folder, this.#file), 'wx', 0o600);
  }

  open(builder: GraphBuilder, name: string, dtype: ValueType, shape: readonly number[]): GrowingValue {
    return { append: this.#place(name, dtype, shape), tensor: () => builder.input(name, shape, dtype) };
  }

  onnx(builder: GraphBuilder, weights: Weights) {
    const own = Array.from(builder.parameters.values()).filter(({ name }) => weights.get(name)?.dtype === 'float32');
    const external = this.#values;
    if (fitInside(own, this.most)) return { external, weights };
    const inside = new Map(weights);
    for (const { name, shape } of own)
      // A vector is small, and would take a page of its own.
      if (shape.length > 1) {
        this.#place(name, 'float32', shape)(weights.get(name)!.data as Float32Array);
        inside.delete(name);
      }
    return { external, weights: inside };
  }

  /** Room for a value; what it gives writes the next piece. */
  #place(name: string, dtype: ValueType, shape: readonly number[]): GrowingValue['append'] {
    const bytes = bytesOf(dtype, shape);
    let at = this.#end;
    this.#values.set(name, { file: this.#file, offset: at, bytes });
    this.#end = Math.ceil((at + bytes) / alignment) * alignment;
    return (piece) => {
      const rest = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
      for (let from = 0; from < rest.length;) {
        const written = writeSync(this.#descriptor, rest, from, rest.length - from, at);
        from += written;
        at += written;
      }
    };
  }

  remove(): void {
    closeSync(this.#descriptor);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A file for as long as something is made with it. */
  static async during<T>(make: (file: ValueFile) => Promise<T>, most = mostInside): Promise<T> {
    const file = new ValueFile(most);
    try {
      return await make(file);
    } finally {
      file.remove();
    }
  }
}
