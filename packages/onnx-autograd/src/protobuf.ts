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
