import { AutogradError } from './errors.js';

/** Writes protocol-buffer messages, as far as ONNX needs them: varints, floats, strings, bytes, nested messages. */
export class MessageWriter {
  private readonly chunks: Uint8Array[] = [];
  private scratch = new Uint8Array(256);
  private used = 0;
  private flushed = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.flushed + this.used;
  }

  private reserve(bytes: number): void {
    if (this.used + bytes <= this.scratch.length) return;
    this.flush();
    this.scratch = new Uint8Array(Math.max(1024, bytes));
  }

  private flush(): void {
    if (this.used === 0) return;
    this.chunks.push(this.scratch.subarray(0, this.used));
    this.flushed += this.used;
    this.scratch = this.scratch.subarray(this.used);
    this.used = 0;
  }

  private varint(value: bigint | number): void {
    this.reserve(10);
    if (typeof value === 'number' && value >= 0 && value < 0x80000000) {
      while (value > 0x7f) {
        this.scratch[this.used++] = (value & 0x7f) | 0x80;
        value >>>= 7;
      }
      this.scratch[this.used++] = value;
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 0x7fn) {
      this.scratch[this.used++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.scratch[this.used++] = Number(rest);
  }

  private tag(field: number, wireType: number): void {
    this.varint(field * 8 + wireType);
  }

  integer(field: number, value: number | bigint): void {
    this.tag(field, 0);
    this.varint(value);
  }

  float(field: number, value: number): void {
    this.tag(field, 5);
    this.reserve(4);
    new DataView(this.scratch.buffer, this.scratch.byteOffset + this.used, 4).setFloat32(0, value, true);
    this.used += 4;
  }

  string(field: number, value: string): void {
    this.bytes(field, new TextEncoder().encode(value));
  }

  /** Large values are kept by reference until finish(), so weights are copied once. */
  bytes(field: number, value: Uint8Array): void {
    this.tag(field, 2);
    this.varint(value.length);
    this.append(value);
  }

  message(field: number, write: (writer: MessageWriter) => void): void {
    const inner = new MessageWriter();
    write(inner);
    inner.flush();
    this.tag(field, 2);
    this.varint(inner.length);
    for (const chunk of inner.chunks) this.append(chunk);
  }

  private append(value: Uint8Array): void {
    if (value.length > 4096) {
      this.flush();
      this.chunks.push(value);
      this.flushed += value.length;
      return;
    }
    this.reserve(value.length);
    this.scratch.set(value, this.used);
    this.used += value.length;
  }

  finish(): Uint8Array {
    this.flush();
    const result = new Uint8Array(this.flushed);
    let at = 0;
    for (const chunk of this.chunks) {
      result.set(chunk, at);
      at += chunk.length;
    }
    return result;
  }
}

/** One field of a message: its value where it is a varint, its bytes where it has a length. */
export interface Field {
  readonly field: number;
  readonly integer: number;
  readonly bytes: Uint8Array;
}

const nothing: Uint8Array = new Uint8Array(0);

/** Reads the fields of a message one after the other; bytes are views. */
export class MessageReader implements Iterable<Field> {
  constructor(private readonly message: Uint8Array) {}

  *[Symbol.iterator](): Generator<Field> {
    const { message } = this;
    let at = 0;
    const varint = (): number => {
      let value = 0;
      for (let factor = 1; ; factor *= 128) {
        const byte = message[at++];
        if (byte === undefined) throw new AutogradError('the bytes are cut off, or no ONNX model; read the file anew');
        value += (byte & 0x7f) * factor;
        if (byte < 0x80) return value;
      }
    };
    while (at < message.length) {
      const tag = varint();
      const wireType = tag % 8;
      const field = (tag - wireType) / 8;
      let integer = 0;
      let bytes = nothing;
      if (wireType === 0) integer = varint();
      else {
        const length = wireType === 2 ? varint() : wireType === 5 ? 4 : wireType === 1 ? 8 : Infinity;
        if (at + length > message.length) throw new AutogradError('the bytes are cut off, or no ONNX model; read the file anew');
        bytes = message.subarray(at, (at += length));
      }
      yield { field, integer, bytes };
    }
  }
}
