import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExternalValue, GraphBuilder, HostTensor, OnnxOptions, Tensor } from '@user-llm/onnx-autograd';

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
  /** How the model that is written says where they are. */
  readonly onnx: Pick<OnnxOptions, 'values' | 'external'>;
  open(builder: GraphBuilder, name: string, dtype: ValueType, shape: readonly number[]): GrowingValue;
}

const elementBytes = { uint8: 1, int8: 1, float32: 4 } as const;
const viewOf = { uint8: Uint8Array, int8: Int8Array, float32: Float32Array } as const;
const bytesOf = (dtype: ValueType, shape: readonly number[]) => shape.reduce((a, b) => a * b, elementBytes[dtype]);

/** Values inside the graph, by name, for a model in one file. */
export class ValuesInside implements ValueStore {
  readonly isMapped = false;
  readonly #values = new Map<string, HostTensor>();
  readonly onnx = { values: this.#values };

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

/**
 * Values in a temporary file of this process alone, for a session that is opened at once: it maps the file into memory, so that of all
 * weights there is one copy and the runtime's own arrangement of them. Remove it when the session is open.
 */
export class ValueFile implements ValueStore {
  readonly isMapped = true;
  readonly folder: string;
  readonly #values = new Map<string, ExternalValue>();
  readonly onnx = { external: this.#values };
  readonly #file = `${randomBytes(8).toString('hex')}.bin`;
  readonly #descriptor: number;
  #end = 0;

  constructor() {
    this.folder = mkdtempSync(path.join(tmpdir(), 'user-llm-'));
    this.#descriptor = openSync(path.join(this.folder, this.#file), 'wx', 0o600);
  }

  open(builder: GraphBuilder, name: string, dtype: ValueType, shape: readonly number[]): GrowingValue {
    const bytes = bytesOf(dtype, shape);
    let at = this.#end;
    this.#values.set(name, { file: this.#file, offset: at, bytes });
    this.#end = Math.ceil((at + bytes) / alignment) * alignment;
    return {
      append: (piece) => {
        const rest = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
        for (let from = 0; from < rest.length;) {
          const written = writeSync(this.#descriptor, rest, from, rest.length - from, at);
          from += written;
          at += written;
        }
      },
      tensor: () => builder.input(name, shape, dtype),
    };
  }

  remove(): void {
    closeSync(this.#descriptor);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A file for as long as something is made with it. */
  static async during<T>(make: (file: ValueFile) => Promise<T>): Promise<T> {
    const file = new ValueFile();
    try {
      return await make(file);
    } finally {
      file.remove();
    }
  }
}
